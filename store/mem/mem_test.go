package mem_test

import (
	"errors"
	"io"
	"testing"

	"sallyport"
	"sallyport/store"
	"sallyport/store/mem"
	"sallyport/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, "m", func(t *testing.T) store.Store {
		s, err := mem.Open("m", mem.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestLimit(t *testing.T) {
	s, err := mem.Open("m", mem.Config{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, n int) error {
		_, err := s.Put(t.Context(), sallyport.Ref{Store: "m", Key: key}, func(w io.Writer) error {
			w.Write(make([]byte, n)) // pays no attention to the error
			return nil
		})
		return err
	}
	for range 3 { // what failed gives its room back
		if err := put("a", 60); err != nil {
			t.Fatal(err)
		}
		if err := put("b", 101); sallyport.KindOf(err) != sallyport.Exhausted {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), sallyport.Ref{Store: "m", Key: "c"}, func(w io.Writer) error {
			w.Write(make([]byte, 40))
			return errors.New("no")
		}); err == nil {
			t.Fatal("committed")
		}
		if err := s.Remove(t.Context(), sallyport.Ref{Store: "m", Key: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := put("a", 100); err != nil {
		t.Fatal(err)
	}
	if err := put("b", 1); sallyport.KindOf(err) != sallyport.Exhausted || sallyport.HintOf(err) == "" {
		t.Fatal(err)
	}
	if _, err := mem.Open("m", mem.Config{Limit: -1}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Fatal(err)
	}
}
