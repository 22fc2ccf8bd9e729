package anonymize

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"sallyport"
)

// SplitFormat takes a format's name apart from its options: "csv;delimiter=|".
// A value in which % or ; stands is written as in a URL: "csv;delimiter=%3B".
func SplitFormat(format string) (name string, options map[string]string, err error) {
	name, rest, more := strings.Cut(format, ";")
	for more {
		var option string
		option, rest, more = strings.Cut(rest, ";")
		key, value, ok := strings.Cut(option, "=")
		if !ok || key == "" {
			return "", nil, badFormat("an option of format %s is not of the form name=value", name)
		}
		if _, twice := options[key]; twice {
			return "", nil, badFormat("format %s has the option %q twice", name, key)
		}
		if value, err = url.PathUnescape(value); err != nil {
			return "", nil, badFormat("option %q of format %s: %% stands before two hexadecimal digits only", key, name)
		}
		if options == nil {
			options = map[string]string{}
		}
		options[key] = value
	}
	return name, options, nil
}

func badFormat(format string, args ...any) error {
	return sallyport.Errorf("anonymize", sallyport.Invalid, `Write it like "csv;delimiter=|", and ; as %3B.`, format, args...)
}

// JoinFormat is the inverse of [SplitFormat]; options are put in order.
func JoinFormat(name string, options map[string]string) string {
	var b strings.Builder
	b.WriteString(name)
	for _, key := range slices.Sorted(maps.Keys(options)) {
		b.WriteString(";" + key + "=" + strings.NewReplacer("%", "%25", ";", "%3B").Replace(options[key]))
	}
	return b.String()
}
