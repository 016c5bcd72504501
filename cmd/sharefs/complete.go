package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sharefs/internal/client"
)

// completeFiles completes names of files and, behind @@, the versions of a file or the times of a directory that are listed, tags among them.
func completeFiles(_ *cobra.Command, _ []string, given string) ([]string, cobra.ShellCompDirective) {
	base, sel, ok := cutLast(given, "@@")
	if !ok || strings.Contains(sel, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	entries, err := os.ReadDir(base + "@@")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, sel) && name != "log" && name != "meta" {
			out = append(out, base+"@@"+name)
		}
	}
	if t, err := client.OpenTarget(base); err == nil && t.File != nil { // those of a directory are listed
		if all, err := t.Moments(); err == nil {
			for _, m := range append(all.Tags, all.Branches...) {
				if strings.HasPrefix(m.Name, sel) {
					out = append(out, base+"@@"+m.Name)
				}
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i <= 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// completeMoments completes a file and behind it the name of one of its tags or branches.
func (a *app) completeMoments(names func(*client.Moments) []client.Moment) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, given string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return completeFiles(cmd, args, given)
		case 1:
			path := args[0]
			if a.dir != "" && !filepath.IsAbs(path) {
				path = filepath.Join(a.dir, path)
			}
			t, err := client.OpenTarget(path)
			if err != nil {
				break
			}
			all, err := t.Moments()
			if err != nil {
				break
			}
			var out []string
			for _, m := range names(all) {
				if strings.HasPrefix(m.Name, given) {
					out = append(out, cobra.CompletionWithDesc(m.Name, m.Note))
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

func tagsOf(m *client.Moments) []client.Moment     { return m.Tags }
func branchesOf(m *client.Moments) []client.Moment { return m.Branches }

// completeOperations completes the name of an operation; what it was stands beside.
func (a *app) completeOperations(_ *cobra.Command, args []string, given string) ([]string, cobra.ShellCompDirective) {
	const most = 100
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	m, err := client.Here(a.dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := m.Operations()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for i := range all {
		if strings.HasPrefix(all[i].ID, given) && len(out) < most {
			out = append(out, cobra.CompletionWithDesc(all[i].ID, all[i].What()))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
