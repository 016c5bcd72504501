package sharefs

import (
	"errors"
	"strings"
	"testing"
)

func TestPeerIDText(t *testing.T) {
	var id PeerID
	for i := range id {
		id[i] = byte(i * 7)
	}
	const want = "aadq4fi-4emvdco-b7izgvi-w3cnfyh-o7ufrsj-zviniv6-3l3rgl2-lmykt3g"
	if id.String() != want || id.Plain() != strings.ReplaceAll(want, "-", "") || id.Short() != want[:7] {
		t.Fatalf("%s", id)
	}
	for _, text := range []string{want, id.Plain(), strings.ToUpper(want), strings.ReplaceAll(want, "-", " "), strings.ReplaceAll(want, "o", "0")} {
		if got, err := ParsePeerID(text); err != nil || got != id {
			t.Errorf("%q: %v", text, err)
		}
	}
	for i := range want { // each slip is found
		for _, c := range "a7" {
			text := want[:i] + string(c) + want[i+1:]
			if got, err := ParsePeerID(text); text != want && (err == nil || got != PeerID{} || !errors.Is(err, KindInvalid)) {
				t.Errorf("%q reads as %v", text, got)
			}
		}
	}
	for _, text := range []string{"", want[1:], want + "a", strings.Repeat("-", 1000), want + "\n", "ä" + want[1:], want[:20] + "\x1b" + want[21:]} {
		if _, err := ParsePeerID(text); !errors.Is(err, KindInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPeerIDBegins(t *testing.T) {
	id := PeerID{1, 2, 3}
	text := id.String()
	for _, word := range []string{text, id.Plain(), id.Short(), strings.ToUpper(text[:9]), strings.ReplaceAll(text[:15], "-", " "), strings.ReplaceAll(text[:12], "b", "8")} {
		if !id.Begins(word) {
			t.Errorf("%q", word)
		}
	}
	for _, word := range []string{"", text[:6], text[:5] + "--", text[1:], text + "a", text[:6] + "\x1b", "ä" + text, strings.Repeat("-", 1000) + text} {
		if id.Begins(word) {
			t.Errorf("%q names it", word)
		}
	}
}

func FuzzParsePeerID(f *testing.F) {
	f.Add("aadq4fi-4emvdco-b7izgvi-w3cnfyh-o7ufrsj-zviniv6-3l3rgl2-lmykt3g")
	f.Add(PeerID{1, 2, 3}.String())
	f.Add("--\x00 é")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParsePeerID(text)
		if err != nil {
			return
		}
		if again, err := ParsePeerID(id.String()); err != nil || again != id {
			t.Errorf("%q reads as %v, and that as %v, %v", text, id, again, err)
		}
	})
}
