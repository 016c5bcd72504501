package report

import "testing"

func TestLeftOutText(t *testing.T) {
	const id = "cw2fv7a-24tbmnl"
	for _, c := range []struct {
		of   LeftOut
		want string
	}{
		{LeftOut{ID: id, Changes: 1, Via: "anna"}, "1 change by cw2fv7a…, which came by anna, is left out, so that files are here as they were without them. To have them: sharefs pair " + id +
			"; on that host the same with this one's id (sharefs pair --id); and sharefs grant on both"},
		{LeftOut{ID: id, Changes: 312, Via: "anna", Calls: "bert", MayBe: "bert-2", Addresses: []string{"192.0.2.1:1", "192.0.2.2:2"}},
			"312 changes by cw2fv7a…, whom anna knows as bert, are left out, so that files are here as they were without them. To have them: sharefs pair " + id +
				" 192.0.2.1:1 192.0.2.2:2 --name bert-2; on that host the same with this one's id (sharefs pair --id); and sharefs grant on both"},
		{LeftOut{ID: id, Changes: 2, Via: "anna", Name: "bert", Level: "read"}, "2 changes by bert, which has the level read here, are left out: sharefs grant bert write has them come"},
		{LeftOut{ID: id, Changes: 2, Via: "anna", Name: "bert", Level: "blocked"}, "2 changes by bert, which is revoked here, came by anna and are left out; other hosts count what they took of it"},
	} {
		if got := c.of.Text(); got != c.want {
			t.Errorf("%s\nwant\n%s", got, c.want)
		}
	}
}
