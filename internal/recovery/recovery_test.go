package recovery

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tyler-smith/go-bip39/wordlists"

	"sharefs"
)

func some(rnd *rand.Rand) *Sheet {
	s := &Sheet{Store: fmt.Sprintf("%012x", rnd.Uint64()>>16), Number: rnd.Uint32(), Place: Place{URL: "s3://s3.example.com/bucket/a prefix"}}
	s.URL = strings.ReplaceAll(s.URL, " ", "-")
	for i := range s.Share {
		s.Share[i] = byte(rnd.Uint32())
	}
	if rnd.IntN(2) == 0 {
		s.Region = "eu-central-1"
	}
	s.HTTP = []string{"", "true", "false"}[rnd.IntN(3)]
	return s
}

// somePeers has peers on it too, or alone.
func somePeers(rnd *rand.Rand) *Sheet {
	s := some(rnd)
	for range rnd.IntN(3) {
		var p Peer
		for i := range p.ID {
			p.ID[i] = byte(rnd.Uint32())
		}
		for n := range rnd.IntN(4) {
			p.Addrs = append(p.Addrs, []string{"192.0.2.7:41300", "[2001:db8::7]:41300", "host.example.com:7274"}[n])
		}
		s.Peers = append(s.Peers, p)
	}
	if len(s.Peers) > 0 && rnd.IntN(2) == 0 {
		s.Place = Place{}
	}
	return s
}

// A peer that is mistyped is found by the check characters of its id, and an address that is none is named.
func TestPeersOnASheet(t *testing.T) {
	s := &Sheet{Store: "0123456789ab", Number: 7, Peers: []Peer{{ID: sharefs.PeerID{1}, Addrs: []string{"192.0.2.7:41300"}}}}
	text, err := s.Text("a host", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id := s.Peers[0].ID.String()
	slip := "b" + id[1:]
	for name, bad := range map[string]string{
		"an id": strings.Replace(text, id, slip, 1), "an address": strings.Replace(text, "192.0.2.7:41300", "192.0.2.7", 1), "a port": strings.Replace(text, ":41300", ":413000", 1),
		"no peer": strings.Replace(text, "peer ", "", 1),
	} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	line, err := s.Line()
	if want := "sharefs-recovery-1 "; err != nil || !strings.HasPrefix(line, want) || !strings.HasSuffix(line, " peer="+s.Peers[0].ID.Plain()+"@192.0.2.7:41300") {
		t.Errorf("%s, %v", line, err)
	}
	for _, bad := range []string{strings.Replace(line, "@", "@,", 1), strings.Replace(line, "peer=a", "peer=b", 1), line + " s3://h/b"} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
	// It is no part of what the words are checked by: the address may be another one by now.
	if got, err := Parse(strings.Replace(text, "192.0.2.7:41300", "192.0.2.9:1", 1)); err != nil || got.Peers[0].Addrs[0] != "192.0.2.9:1" || got.Share != s.Share {
		t.Errorf("%+v, %v", got, err)
	}
}

// What stands on paper now must be read by every later release.
func TestSheetsOfTheFirstForm(t *testing.T) {
	s := &Sheet{Store: "0123456789ab", Number: 7, Place: Place{URL: "s3://s3.example.com/bucket/prefix", Region: "eu-central-1"}}
	for i := range s.Share {
		s.Share[i] = byte(i)
	}
	const text = `bucket: s3://s3.example.com/bucket/prefix
region: eu-central-1
1 abandon amount liar amount FOSTER
2 expire adjust cage candy plate
3 arch gather drum bull mail
4 absurd math era live outside
5 bid rhythm alien crouch assault
6 range attend journey then material
7 cash clinic tiny figure road
8 abandon abandon broom cart kidney
`
	const line = "sharefs-recovery-1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8BI0VniasAAAAHMRg s3://s3.example.com/bucket/prefix region=eu-central-1"
	for _, form := range []string{text, line} {
		got, err := Parse(form)
		if err != nil || !reflect.DeepEqual(got, s) {
			words, _ := s.Words()
			line, _ := s.Line()
			t.Errorf("%v, %+v\n%q\n%s", err, got, words, line)
		}
	}
	// The list of BIP-39 as its authors publish it.
	if sum := sha256.Sum256([]byte(strings.Join(wordlists.English, "\n") + "\n")); fmt.Sprintf("%x", sum) != "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda" {
		t.Errorf("the list of words is another one: %x", sum)
	}
}

func TestWhatIsPrintedIsRead(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		s := somePeers(rnd)
		text, err := s.Text("a host", time.Unix(1_800_000_000, 0))
		if err != nil {
			t.Fatal(err)
		}
		line, err := s.Line()
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{text, line, "before\n  " + line + "  \nafter", strings.ToUpper(text[:0]) + strings.ReplaceAll(text, "\n", "\r\n")} {
			if got, err := Parse(form); err != nil || !reflect.DeepEqual(got, s) {
				t.Fatalf("%v, %+v of\n%s", err, got, form)
			}
		}
		for line := range strings.Lines(text) {
			if len([]rune(line)) > 81 {
				t.Errorf("a line has %d characters: %s", len(line), line)
			}
		}
	}
}

// Words may be cut to four letters, and written in any case.
func TestWordsAreKnownByTheirBeginning(t *testing.T) {
	s := some(rand.New(rand.NewPCG(3, 4)))
	words, err := s.Words()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "BUCKET %s\nRegion %s\nhttp: %s\n", s.URL, s.Region, s.HTTP)
	for i, line := range words {
		for j, w := range line {
			line[j] = strings.ToUpper(stem(w))
		}
		fmt.Fprintf(&b, "%d. %s\n", i+1, strings.Join(line, " "))
	}
	if got, err := Parse(b.String()); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%v, %+v", err, got)
	}
}

// One word that is wrong is found, and its line is named; a slip of the pen is mostly guessed.
func TestAWrongWordIsNamed(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	s := some(rnd)
	words, err := s.Words()
	if err != nil {
		t.Fatal(err)
	}
	missed, guessed, slips := 0, 0, 0
	for range 400 {
		i, j := rnd.IntN(Lines), rnd.IntN(lineWords)
		line := append([]string(nil), words[i]...)
		was := line[j]
		slip := rnd.IntN(2) == 0
		if slip {
			at := rnd.IntN(len(was))
			line[j] = was[:at] + string(rune('a'+rnd.IntN(26))) + was[at+1:]
		} else {
			line[j] = wordlists.English[rnd.IntN(list)]
		}
		if n, ok := find(line[j]); ok && wordlists.English[n] == was {
			continue // the first four letters are what counts
		}
		_, err := ParseLine(i+1, strings.Join(line, " "))
		if err == nil {
			missed++ // one of 2048
			continue
		}
		if sharefs.KindOf(err) != sharefs.KindInvalid || !strings.Contains(err.Error(), fmt.Sprintf("line %d", i+1)) {
			t.Fatalf("%q: %v", line, err)
		}
		if slip {
			slips++
			if strings.Contains(err.Error(), fmt.Sprintf("%q as word %d is meant", was, j+1)) {
				guessed++
			}
		}
	}
	if missed > 3 || guessed < slips*9/10 {
		t.Errorf("%d wrong lines were taken; of %d slips %d were guessed", missed, slips, guessed)
	}
	line := append([]string(nil), words[2]...)
	line[1], line[2] = line[2], line[1]
	if _, err := ParseLine(3, strings.Join(line, " ")); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q before %q is meant", words[2][1], words[2][2])) {
		t.Errorf("two words that changed places: %v", err)
	}
	if _, err := ParseLine(2, strings.Join(words[2], " ")); err == nil {
		t.Error("a line in the place of another is taken")
	}
}

func TestErrorsOfSheets(t *testing.T) {
	s := some(rand.New(rand.NewPCG(7, 8)))
	s.Region, s.HTTP = "", ""
	text, err := s.Text("a host", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	line, err := s.Line()
	if err != nil {
		t.Fatal(err)
	}
	words, _ := s.Words()
	first := strings.Join(words[0], " ")
	lineOf := func(n int) string {
		for l := range strings.Lines(text) {
			if strings.HasPrefix(l, fmt.Sprintf("  %d ", n)) {
				return l
			}
		}
		return "none"
	}
	for what, c := range map[string]struct{ text, want string }{
		"empty":                {"", "the bucket is missing"},
		"without a line":       {strings.Replace(text, lineOf(4), "", 1), "line 4: it is missing"},
		"another bucket":       {strings.Replace(text, "s3.example", "s4.example", 1), "they do not go with the bucket s3://s4.example.com"},
		"another region":       {text + "region us-east-1\n", "they do not go with the bucket"},
		"a bucket twice":       {text + "bucket s3://other/one\n", "twice"},
		"a line twice":         {text + "1 " + first + " more\n", "twice"},
		"too few words":        {strings.Replace(text, lineOf(1), "1 abandon ability\n", 1), "line 1: it has 5 words"},
		"unknown words":        {strings.Replace(text, lineOf(1), "1 abandon xxxx yyyy able about\n", 1), `words 2 and 3, "xxxx" and "yyyy", are not in the list`},
		"a code cut":           {line[:50], "is not what stands in the code"},
		"a code changed":       {strings.Replace(line, "s3.example", "s4.example", 1), "they do not go with the bucket"},
		"a code with more":     {line + " colour=red", "is not what stands in the code"},
		"no such http":         {line + " http=perhaps", "is not the place of a bucket"},
		"a place that is none": {magic + " " + strings.Fields(line)[1] + " http://x/y", "is not the place of a bucket"},
	} {
		if _, err := Parse(c.text); sharefs.KindOf(err) != sharefs.KindInvalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", what, err, c.want)
		}
	}
	for _, bad := range []Sheet{{Store: "12", Place: s.Place}, {Store: "x23456789012", Place: s.Place}, {Store: s.Store, Place: Place{URL: "s3://a b/c"}}} {
		if _, err := bad.Line(); sharefs.KindOf(err) != sharefs.KindInvalid {
			t.Errorf("%+v: %v", bad, err)
		}
		if _, err := bad.Text("x", time.Now()); sharefs.KindOf(err) != sharefs.KindInvalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestBytesAndWords(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 9))
	for range 100 {
		b := make([]byte, bodyLen+checkLen)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		words := split(b)
		if len(words) != Lines*dataWords || !bytes.Equal(join(words), b) {
			t.Fatalf("%d words, %x of %x", len(words), join(words), b)
		}
	}
}

// slowDistance is the definition.
func slowDistance(a, b string) int {
	switch {
	case a == "":
		return len(b)
	case b == "":
		return len(a)
	case a[0] == b[0]:
		return slowDistance(a[1:], b[1:])
	}
	d := min(slowDistance(a[1:], b), slowDistance(a, b[1:]), slowDistance(a[1:], b[1:]))
	if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
		d = min(d, slowDistance(a[2:], b[2:]))
	}
	return 1 + d
}

// A word that is not in the list is guessed by the check word; where no word fits that, the one most like it is still named.
func TestAWordThatIsNotInTheList(t *testing.T) {
	line := func(words ...string) string {
		var n []int
		for _, w := range words {
			i, ok := find(w)
			if !ok {
				t.Fatal(w)
			}
			n = append(n, i)
		}
		return strings.Join(append(words, wordlists.English[checkWord(3, n)]), " ")
	}
	for text, want := range map[string]string{
		strings.Replace(line("fork", "receive", "hockey", "belt"), "receive", "recieve", 1): `line 3: word 2, "recieve", is not in the list; perhaps "receive" as word 2 is meant`,
		strings.Replace(line("fork", "empty", "hockey", "belt"), "empty", "recieve", 1):     `line 3: word 2, "recieve", is not in the list; perhaps "receive" is meant, but another word of the line is wrong then`,
		strings.Replace(line("fork", "empty", "hockey", "belt"), "empty", "nonsense", 1):    `line 3: word 2, "nonsense", is not in the list`,
	} {
		if _, err := ParseLine(3, text); err == nil || !strings.Contains(err.Error(), want) || strings.HasSuffix(want, "list") && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestDistance(t *testing.T) {
	rnd := rand.New(rand.NewPCG(10, 9))
	word := func() string {
		b := make([]byte, rnd.IntN(7))
		for i := range b {
			b[i] = "abc"[rnd.IntN(3)]
		}
		return string(b)
	}
	for range 5000 {
		a, b := word(), word()
		if got, want := distance(a, b), min(slowDistance(a, b), 3); got != want {
			t.Fatalf("%q and %q: %d, want %d", a, b, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	s := some(rand.New(rand.NewPCG(12, 9)))
	text, _ := s.Text("a host", time.Unix(1_800_000_000, 0))
	line, _ := s.Line()
	f.Add(text)
	f.Add(line)
	f.Add("bucket s3://a/b\n1 abandon ability able about above\n")
	f.Add("1 abandon xxxx able about above")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		line, err := s.Line()
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", s, err)
		}
		if again, err := Parse(line); err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%q: %v, %+v, want %+v", line, err, again, s)
		}
	})
}
