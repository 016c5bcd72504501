package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/term"
)

// findEditor returns the user's editor, a command of the shell that may have arguments. One that is named and is not there is an error: who is to choose should hear
// it before anything is merged.
func findEditor() (string, error) {
	refuse := func(editor, detail string) (string, error) {
		return "", &sharefs.Error{Op: "edit", Path: term.Quote(editor), Kind: sharefs.KindNotExist,
			Detail: detail + "; --merge --output OTHER writes what is to be edited, and --with OTHER takes it"}
	}
	for _, v := range []string{"VISUAL", "EDITOR"} {
		editor := strings.TrimSpace(os.Getenv(v))
		if editor == "" {
			continue
		}
		program := strings.Fields(editor)[0]
		if strings.ContainsAny(program, `$"'\`+"`"+`;&|<>(){}[]*?~#=!%`) { // the shell knows what that is
			return editor, nil
		}
		if _, err := exec.LookPath(program); err != nil {
			return refuse(program, "there is no such program, which $"+v+" names: set it to an editor that there is")
		}
		return editor, nil
	}
	const usual = "vi"
	if _, err := exec.LookPath(usual); err != nil {
		return refuse(usual, "neither $VISUAL nor $EDITOR is set, and there is no "+usual+": set one of them to an editor")
	}
	return usual, nil
}

// editMerge has the user choose in an editor. What he changed is kept until it is the file, and named if it does not come to that.
func (a *app) editMerge(x *merging, text string, conflicts int, editor string) error {
	dir, err := os.MkdirTemp("", "sharefs-merge-")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, filepath.Base(x.f.Path)) // so that the editor knows what it is
	edited, err := edit(editor, name, text)
	if err == nil && string(edited) == text {
		err = &sharefs.Error{Path: term.Quote(x.f.Given), Kind: sharefs.KindInvalid, Detail: "the editor left " + inTwoWays(conflicts) + " as it was, so the conflict stays: --take NAME takes one version"}
	}
	if err == nil {
		err = a.unmarked(name, edited)
	}
	if err == nil {
		err = a.endMerge(x, string(edited), conflicts, "")
	}
	if err == nil || edited == nil || string(edited) == text {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
		return err
	}
	return fmt.Errorf("%w; what you wrote is in %s; when it is right: sharefs resolve %s --with %s", err, term.Quote(name), term.Quote(x.f.Given), term.Quote(name))
}

// edit has an editor open a new file, and returns what is in it then, also where the editor failed; nil: nothing can be read.
func edit(editor, name, text string) ([]byte, error) {
	if err := writeNew(name, text); err != nil {
		return nil, err
	}
	// The terminal sends these to the editor as well, which decides what becomes of them.
	keys := make(chan os.Signal, 1)
	signal.Notify(keys, os.Interrupt, unix.SIGQUIT)
	defer signal.Stop(keys)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGHUP)
	defer stop()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", editor+` "$@"`, editor, name)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	failed := cmd.Run()
	edited, err := os.ReadFile(name)
	if failed != nil {
		return edited, &sharefs.Error{Op: "edit", Path: term.Quote(editor), Kind: sharefs.KindOther, Detail: "the editor failed, and the file is left as it is", Err: failed}
	}
	if err != nil {
		return nil, client.PathError("read", name, err)
	}
	return edited, nil
}
