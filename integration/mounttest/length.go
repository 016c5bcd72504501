package mounttest

import (
	"os"
	"slices"
	"strconv"
	"testing"
)

// Soak reports whether the tests are to take their full length (SHAREFS_SOAK=1, make soak).
func Soak() bool { return os.Getenv("SHAREFS_SOAK") != "" }

// Number returns how much of something a test is to do: what the environment says under this name, otherwise n, or in make soak full.
func Number(t testing.TB, name string, n, full int) int {
	t.Helper()
	s := os.Getenv(name)
	switch {
	case s == "" && Soak():
		return full
	case s == "":
		return n
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < 0 {
		t.Fatalf("%s=%s is no number of anything", name, s)
	}
	return v
}

// Versions lists the numbers of a file's versions, in their order.
func Versions(t testing.TB, path string) (numbers []int) {
	t.Helper()
	entries, err := os.ReadDir(path + "@@")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// Latest returns the path of a file's last version.
func Latest(t testing.TB, path string) string {
	t.Helper()
	numbers := Versions(t, path)
	if len(numbers) == 0 {
		t.Fatalf("%s has no version", path)
	}
	return path + "@@" + strconv.Itoa(numbers[len(numbers)-1])
}
