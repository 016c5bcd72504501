package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
)

// mounter is the program that has the tree.
const mounter = "sharefs-mount"

func (a *app) rebuild() *cobra.Command {
	var store string
	var force, bare bool
	cmd := &cobra.Command{
		Use:   "rebuild [STORE]",
		Short: "Make a lost or damaged meta.db of a store anew",
		Long: `Make the meta.db of a store anew that is lost or damaged, from the store's
checkpoints, journal, packs and live files. Nobody may have it mounted. STORE is
the name of a store or its path; without it the store "default" is meant.

What is in the way is moved to lost/ in the store, and nothing is deleted. It may
be interrupted and called again. What could not be had back is named.

Exit status: 0 nothing is missing, 3 what is missing was named, else it failed.`,
		Example: `  sharefs rebuild                       The default store
  sharefs rebuild --store /srv/photos   The store in that directory`,
		Args: between(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.mounter(cmd, "--rebuild", store, []flagSet{{force, "--force"}, {bare, "--bare"}}, args)
		},
	}
	cmd.Flags().StringVar(&store, "store", "", "The store in `DIR`")
	cmd.Flags().BoolVar(&force, "force", false, "Although meta.db reads whole")
	cmd.Flags().BoolVar(&bare, "bare", false, "Without a checkpoint: names and history are lost, live files are kept by number")
	return cmd
}

// findMounter finds the program beside this one, or where programs are.
func findMounter() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), mounter)
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	path, err := exec.LookPath(mounter)
	if err != nil {
		return "", errors.New(mounter + " is needed for this, and is neither beside this program nor in PATH")
	}
	return filepath.Abs(path)
}
