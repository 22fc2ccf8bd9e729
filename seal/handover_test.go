package seal

import (
	"errors"
	"testing"

	"sallyport"
)

func TestTakeAKeyOrAToken(t *testing.T) {
	node, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	release, err := FromDataKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := release.Wrap(node.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := node.Take(wrapped, nil); err != nil || got.Recipient() != release.Recipient() {
		t.Errorf("a key: %v", err)
	}
	token, err := WrapToken("hvs.secret", node.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	traded := ""
	got, err := node.Take(token, func(s string) (*Key, error) { traded = s; return release, nil })
	if err != nil || traded != "hvs.secret" || got != release {
		t.Errorf("a token: %q, %v", traded, err)
	}
	if _, err := node.Take(token, nil); sallyport.KindOf(err) != sallyport.Unsupported {
		t.Errorf("nowhere to trade: %v", err)
	}
	used := errors.New("used")
	if _, err := node.Take(token, func(string) (*Key, error) { return nil, used }); !errors.Is(err, used) {
		t.Errorf("a used token: %v", err)
	}
	if _, err := release.Take(token, nil); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("another's token: %v", err)
	}
	for _, bad := range []string{"", "a\nb"} {
		if _, err := WrapToken(bad, node.Recipient()); err == nil {
			t.Errorf("wrapped %q", bad)
		}
	}
	if _, err := FromDataKey(make([]byte, 16)); err == nil {
		t.Error("a short data key was taken")
	}
}
