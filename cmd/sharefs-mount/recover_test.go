package main

import (
	"context"
	"io"
	"reflect"
	"strings"
	"testing"

	"sharefs/internal/recovery"
)

// Whoever types the sheet is told at once which line is wrong, and types that once more alone.
func TestASheetIsTyped(t *testing.T) {
	want := &recovery.Sheet{Share: [32]byte{1, 2}, Store: "0123456789ab", Number: 3, Place: recovery.Place{URL: "s3://host/bucket", Region: "here-1"}}
	words, err := want.Words()
	if err != nil {
		t.Fatal(err)
	}
	var typed strings.Builder
	typed.WriteString("s3://host/bucket\nhere-1\n\n\n")
	for i, line := range words {
		text := strings.Join(line, " ")
		switch i {
		case 2:
			typed.WriteString(strings.Replace(text, line[0], "nonsense", 1) + "\n" + text + "\n")
		case 3:
			typed.WriteString("4 " + text + "\n")
		default:
			typed.WriteString("  " + strings.ToUpper(text) + " \n")
		}
	}
	var said strings.Builder
	got, err := askSheet(context.Background(), strings.NewReader(typed.String()), &said)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\n%s", got, err, &said)
	}
	if text := said.String(); strings.Count(text, "words of line 3: ") != 2 || strings.Count(text, `"nonsense", is not in the list`) != 1 || strings.Count(text, "words of line 4: ") != 1 {
		t.Errorf("it says\n%s", text)
	}
	// Another bucket is found at the end, and all is asked for once more.
	said.Reset()
	again := strings.Replace(typed.String(), "s3://host/", "s3://hots/", 1) + typed.String()
	if got, err = askSheet(context.Background(), strings.NewReader(again), &said); err != nil || !reflect.DeepEqual(got, want) || !strings.Contains(said.String(), "they do not go with the bucket s3://hots/bucket") {
		t.Errorf("%+v, %v\n%s", got, err, &said)
	}
	// With peers, and no bucket.
	want.Place = recovery.Place{}
	want.Peers = []recovery.Peer{{Addrs: []string{"192.0.2.7:1", "host:2"}}, {}}
	want.Peers[0].ID[0], want.Peers[1].ID[0] = 1, 2
	typed.Reset()
	id := want.Peers[0].ID.String()
	typed.WriteString("\nb" + id[1:] + "\n\n" + id + "\n192.0.2.7:1 host:2\n" + want.Peers[1].ID.Plain() + "\n\n\n")
	if words, err = want.Words(); err != nil {
		t.Fatal(err)
	}
	for _, line := range words {
		typed.WriteString(strings.Join(line, " ") + "\n")
	}
	if got, err = askSheet(context.Background(), strings.NewReader(typed.String()), io.Discard); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := askSheet(context.Background(), strings.NewReader("s3://host/bucket\n"), io.Discard); err == nil || !strings.Contains(err.Error(), "ends too early") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, _ := io.Pipe()
	if _, err := askSheet(ctx, r, io.Discard); err == nil {
		t.Error("an end that was asked for is passed over")
	}
	r.Close()
}

func TestTasksAndTheirFlags(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"--recover --sheet x --bucket s3://a/b --credentials c --peer h:1 --force --json photos", ""},
		{"--recovery --no-code --json", ""},
		{"--rebuild --force --bare --json", ""},
		{"--recover --rebuild", "--rebuild and --recover do not go together"},
		{"--recovery --recover", "--recovery and --recover do not go together"},
		{"--recovery --force", "--force goes with --rebuild"},
		{"--recover --bare", "--bare goes with --rebuild"},
		{"--recover --no-code", "--no-code goes with --recovery"},
		{"--sheet x /mnt", "--sheet goes with --recover"},
		{"--json /mnt", "--json goes with --rebuild"},
		{"--recover a b", "one argument too many"},
	} {
		got, err := parseArgs(append([]string{"sharefs-mount"}, strings.Fields(c.line)...))
		if c.want == "" && (err != nil || !got.mountsNothing() || got.credentials != "" && got.credentials[0] != '/') || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %+v, %v", c.line, got, err)
		}
	}
}
