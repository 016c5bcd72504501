// Package versions is the tree that remembers: names, inodes and content of the live files, and every state they were in.
package versions
