package bytesize

import "testing"

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "20GiB": 20 << 30, "1 TB": 1e12, "5MB": 5e6, "3KiB": 3072, "0GB": 0} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
		out, _ := s.MarshalText()
		var again Size
		if err := again.UnmarshalText(out); err != nil || again != s {
			t.Errorf("%q becomes %q", text, out)
		}
	}
	for _, text := range []string{"", "20", "GiB", "-1GB", "1.5GB", "1gb", "9999999999999TiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %d", text, s)
		}
	}
}

func TestDecimal(t *testing.T) {
	for text, want := range map[string]bool{"1KB": true, "1MB": true, "50GB": true, "2GB": true, "64TB": true, "1KiB": false, "1000KiB": false, "16MiB": false, "1000MiB": false, "20GiB": false, "0": false} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s.Decimal() != want {
			t.Errorf("%s is decimal: %v, %v", text, s.Decimal(), err)
		}
	}
	if Size(1_000_001).Decimal() {
		t.Error("what is written roughly is no unit that somebody gave")
	}
}
