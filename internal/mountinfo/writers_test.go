package mountinfo

import "testing"

func TestWritable(t *testing.T) {
	for text, want := range map[string]bool{
		"pos:\t0\nflags:\t0100001\nmnt_id:\t36\nino:\t5\n": true,
		"pos:\t0\nflags:\t02100002\nmnt_id:\t36\n":         true,
		"pos:\t0\nflags:\t0100000\nmnt_id:\t36\n":          false, // reads
		"pos:\t0\nflags:\t012000001\nmnt_id:\t36\n":        false, // O_PATH
		"pos:\t0\nflags:\t0100001\nmnt_id:\t361\n":         false,
		"flags:\tx\nmnt_id:\t36\n":                         false,
		"":                                                 false,
	} {
		if got := writable(text, 36, 0); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	const five = "flags:\t0100001\nmnt_id:\t36\nino:\t5\n"
	if !writable(five, 36, 5) || writable(five, 36, 55) {
		t.Error("another inode")
	}
}
