package main

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sallyport"
)

// tableFile is one table to anonymize, and where it goes.
type tableFile struct {
	name  string // for people
	rel   string // slash-separated name under the output folder
	out   string // "": standard output
	stdin bool
	open  func() (*os.File, error)
	size  int64
	real  string // the input's path without symbolic links
	bad   error  // it was found and cannot be read
}

// tables is what the arguments name.
type tables struct {
	files  []tableFile
	folder string // that the outputs go to; "" for a single named file
	many   bool   // more than one file may be meant: results are listed
	roots  []*os.Root
}

func (t *tables) close() {
	for _, r := range t.roots {
		r.Close()
	}
}

func pathError(kind sallyport.Kind, hint, format string, args ...any) error {
	return sallyport.Errorf("anonymize", kind, hint, format, args...)
}

// findTables resolves files, globs and folders. out is the output: "" or "-" for
// standard output.
func findTables(ins []string, out string) (_ *tables, err error) {
	t := &tables{}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if len(ins) == 1 && ins[0] == "-" {
		f := tableFile{name: "standard input", rel: "stdin", stdin: true}
		if out != "-" {
			f.out = out
		}
		if isFolder(out) || strings.HasSuffix(out, string(filepath.Separator)) {
			return nil, pathError(sallyport.Invalid, "Name a file.", "standard input has no name to have in folder %s", out)
		}
		t.files = []tableFile{f}
		return t, nil
	}
	var named []string
	for _, in := range ins {
		if in == "-" {
			return nil, pathError(sallyport.Invalid, "Name it alone.", "standard input cannot be read together with files")
		}
		if _, err := os.Lstat(in); err == nil || !strings.ContainsAny(in, "*?[") {
			named = append(named, in)
			continue
		}
		matches, err := filepath.Glob(in)
		if err != nil {
			return nil, pathError(sallyport.Invalid, "Use * for any characters, ? for one, [a-z] for a range.", "the pattern %s is not well-formed", in)
		}
		if len(matches) == 0 {
			return nil, pathError(sallyport.NotFound, "Name files that are there.", "nothing matches %s", in)
		}
		t.many = true
		named = append(named, matches...)
	}
	for i, in := range named {
		info, err := os.Stat(in)
		switch {
		case err != nil:
			if len(named) == 1 {
				return nil, sallyport.E("anonymize", sallyport.NotFound, err, "Name a file, a folder or a pattern.")
			}
			t.files = append(t.files, tableFile{name: in, rel: filepath.Base(in), bad: sallyport.E("", sallyport.NotFound, err, "")})
		case info.IsDir():
			t.many = true
			if slices.Contains(named[:i], in) {
				continue
			}
			prefix := ""
			if len(named) > 1 {
				prefix = filepath.Base(filepath.Clean(in))
			}
			if err := t.walk(in, prefix); err != nil {
				return nil, err
			}
		default:
			f := tableFile{name: in, rel: filepath.Base(in), size: info.Size(), open: func() (*os.File, error) { return os.Open(in) }}
			if !info.Mode().IsRegular() {
				f.bad = pathError(sallyport.Invalid, "Read it by standard input: -.", "not a regular file")
			}
			f.real = realPath(in)
			t.files = append(t.files, f)
		}
	}
	t.many = t.many || len(named) > 1
	return t, t.place(out)
}

// walk lists a folder and those below it. Nothing outside the folder is opened,
// whatever links say.
func (t *tables) walk(dir, prefix string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return sallyport.E("anonymize", sallyport.Unavailable, err, "Name a folder that you may read.")
	}
	t.roots = append(t.roots, root)
	real := realPath(dir)
	return fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		f := tableFile{name: filepath.Join(dir, filepath.FromSlash(p)), rel: path.Join(prefix, p), real: filepath.Join(real, filepath.FromSlash(p)),
			open: func() (*os.File, error) { return root.Open(filepath.FromSlash(p)) }}
		if err != nil {
			f.bad = sallyport.E("", sallyport.Unavailable, err, "See that you may read it.")
			t.files = append(t.files, f)
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() || strings.HasPrefix(d.Name(), tempPrefix) && strings.HasSuffix(d.Name(), tempSuffix) {
			return nil
		}
		info, err := root.Stat(filepath.FromSlash(p))
		switch {
		case err != nil && d.Type()&fs.ModeSymlink != 0:
			f.bad = pathError(sallyport.Denied, "Copy what it names into the folder, or name it as an input.", "a symbolic link that leads out of the folder, or nowhere, is not followed")
		case err != nil:
			f.bad = sallyport.E("", sallyport.Unavailable, err, "")
		case info.IsDir():
			f.bad = pathError(sallyport.Denied, "Name the folder as an input of its own.", "a symbolic link to a folder is not followed")
		case !info.Mode().IsRegular():
			f.bad = pathError(sallyport.Invalid, "Take it out of the folder.", "not a regular file")
		default:
			f.size = info.Size()
		}
		t.files = append(t.files, f)
		return nil
	})
}

// place says where each output goes, and refuses what would overwrite an input
// or be read as one.
func (t *tables) place(out string) error {
	if len(t.files) == 0 {
		return pathError(sallyport.NotFound, "Name a folder with tables in it.", "there is no file to read")
	}
	slash := strings.HasSuffix(out, "/") || strings.HasSuffix(out, string(filepath.Separator))
	switch {
	case !t.many && (out == "" || out == "-"):
		return nil
	case t.many && (out == "" || out == "-"):
		return pathError(sallyport.Invalid, "Name a folder for them, last or by --out.", "several tables cannot go to standard output")
	case !t.many && !slash && !isFolder(out):
		if realPath(out) == t.files[0].real || sameFile(out, t.files[0].name) {
			return pathError(sallyport.Invalid, "Name another output.", "the output is the input: %s", out)
		}
		t.files[0].out = out
		return nil
	}
	if info, err := os.Stat(out); err == nil && !info.IsDir() {
		return pathError(sallyport.Invalid, "Name a folder, last or by --out.", "several tables cannot go to the one file %s", out)
	}
	t.folder = filepath.Clean(out)
	real := realPath(out)
	for _, r := range t.roots {
		if in := realPath(r.Name()); within(in, real) {
			return pathError(sallyport.Invalid, "Name a folder outside of it.", "the output folder %s is in the input folder %s, and would be read as input", out, r.Name())
		}
	}
	inputs, outputs := map[string]bool{}, map[string]string{}
	for _, f := range t.files {
		inputs[f.real] = true
	}
	for i := range t.files {
		f := &t.files[i]
		f.out = filepath.Join(t.folder, filepath.FromSlash(f.rel))
		if other := outputs[f.out]; other != "" {
			return pathError(sallyport.Invalid, "Anonymize them into two folders.", "%s and %s would both be written to %s", other, f.name, f.out)
		}
		outputs[f.out] = f.name
		if inputs[realPath(f.out)] {
			return pathError(sallyport.Invalid, "Name another output folder.", "the output would overwrite the input %s", f.out)
		}
	}
	return nil
}

// prepare makes the folder of an output, and sees that it lies where it should.
func (t *tables) prepare(out string) error {
	dir := filepath.Dir(out)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return outputError(err)
	}
	if t.folder != "" && !within(realPath(t.folder), realPath(dir)) {
		return pathError(sallyport.Denied, "Remove the symbolic link from the output folder.", "%s leads out of the output folder", dir)
	}
	return nil
}

func isFolder(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.IsDir()
}

// realPath is the absolute path without symbolic links, as far as it exists.
func realPath(p string) string {
	abs, err := filepath.Abs(p)
	if err != nil {
		return filepath.Clean(p)
	}
	rest := ""
	for dir := abs; ; dir = filepath.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		} else if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return abs
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// within reports whether p is dir or below it.
func within(dir, p string) bool {
	rel, err := filepath.Rel(dir, p)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
