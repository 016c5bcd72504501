package main

import (
	"strings"
	"testing"
)

// What was measured replaces the table of the same title alone; another one is added at the end.
func TestMergeInto(t *testing.T) {
	measured := &tables{names: []string{"ext4", "ShareFS"}, on: "a disk"}
	for _, title := range []string{"Names", "Content"} {
		r := measured.table(title, "Note.").row("write", "MB/s", true, gate{against: "ext4", atLeast: 0.95})
		r.figures = map[string][]float64{"ext4": {100, 300, 200}, "ShareFS": {100, 90}}
	}
	measured.table("Nothing", "No row matched.")

	text := "# Page\n\n" + beginMark + "\nOf two runs.\n\n### Names, a disk\n\nold\n\n### Names\n\nkept\n\n" + endMark + "\nThe end.\n"
	got, err := measured.mergeInto(text)
	if err != nil {
		t.Fatal(err)
	}
	row := "| write | MB/s | 200 | 95 | 0.47 × ext4 (≥ 0.95: **missed**) |\n"
	var want strings.Builder
	want.WriteString("# Page\n\n" + beginMark + "\nOf two runs.\n\n")
	head := "\n\n" + where() + ". Note.\n\n| | unit | ext4 | ShareFS | ShareFS against the goal |\n|---|---|---|---|---|\n"
	want.WriteString("### Names, a disk" + head + row + "\n### Names\n\nkept\n\n### Content, a disk" + head + row)
	want.WriteString("\n" + endMark + "\nThe end.\n")
	if got != want.String() {
		t.Errorf("merged to\n%s\nwant\n%s", got, want.String())
	}
	if again, err := measured.mergeInto(got); err != nil || again != got {
		t.Errorf("merged twice: %v\n%s", err, again)
	}
	if _, err := measured.mergeInto("no markers"); err == nil {
		t.Error("a document without markers was taken")
	}
	if got, err := (&tables{}).mergeInto(beginMark + endMark); err != nil || got != beginMark+"\n\n\n"+endMark {
		t.Errorf("nothing in nothing: %q, %v", got, err)
	}
}
