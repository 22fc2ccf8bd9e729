package dir

import (
	"context"
	"io/fs"
	"path"
	"slices"
	"strings"

	"sallyport"
	"sallyport/store"
)

// walk yields the objects below folder d whose keys begin with prefix, and
// reports whether to go on.
func (s *Store) walk(ctx context.Context, d, prefix string, yield func(store.Info, error) bool) bool {
	const op = "list objects"
	if err := ctx.Err(); err != nil {
		yield(store.Info{}, sallyport.E(op, sallyport.Canceled, err, ""))
		return false
	}
	list, err := fs.ReadDir(s.root.FS(), d)
	if err != nil {
		if isAbsent(err) {
			return true // pruned since its parent was read
		}
		yield(store.Info{}, fault(op, err))
		return false
	}
	// In key order a folder sorts as its name with a slash: "a-b" is before "a/c".
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	for _, e := range list {
		key := e.Name()
		if d != "." {
			key = d + "/" + key
		}
		switch {
		case key == hidden:
		case e.IsDir():
			below := key + "/"
			if strings.HasPrefix(below, prefix) || strings.HasPrefix(prefix, below) {
				if !s.walk(ctx, path.Clean(key), prefix, yield) {
					return false
				}
			}
		case e.Type().IsRegular() && strings.HasPrefix(key, prefix):
			ref := sallyport.Ref{Store: s.name, Key: key}
			if s.check(context.Background(), op, ref) != nil {
				continue // a name that is no key, put there by hand, could not be opened
			}
			st, err := e.Info()
			if err != nil {
				if isAbsent(err) {
					continue
				}
				yield(store.Info{}, fault(op, err))
				return false
			}
			if err := ctx.Err(); err != nil {
				yield(store.Info{}, sallyport.E(op, sallyport.Canceled, err, ""))
				return false
			}
			if !yield(s.info(key, st), nil) {
				return false
			}
		}
	}
	return true
}

func sortName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}
