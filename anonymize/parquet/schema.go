package parquet

import (
	"fmt"
	"slices"
	"strings"
)

// Members of the union LogicalType, and the older ConvertedType, of
// parquet.thrift.
const (
	logicalString    = 1
	logicalMap       = 2
	logicalList      = 3
	logicalEnum      = 4
	logicalDecimal   = 5
	logicalDate      = 6
	logicalTime      = 7
	logicalTimestamp = 8
	logicalInt       = 10
	logicalNull      = 11
	logicalJSON      = 12
	logicalUUID      = 14

	convertedUTF8            = 0
	convertedMap             = 1
	convertedMapKeyValue     = 2
	convertedList            = 3
	convertedEnum            = 4
	convertedDecimal         = 5
	convertedDate            = 6
	convertedTimeMillis      = 7
	convertedTimeMicros      = 8
	convertedTimestampMillis = 9
	convertedTimestampMicros = 10
	convertedUint8           = 11
	convertedInt64           = 18
	convertedJSON            = 19
)

// leaf is a column.
type leaf struct {
	*node
	path []string // of the schema
	name string   // as the editor knows it
	kind kind
}

// nameLeaves names the columns and finds their kinds. A name is the path with
// dots. What repeats ends in [], and the groups that a LIST and a MAP have by
// the format's rules between themselves and their items have no name:
// "tags[]", "address.city", "prices[].amount", "map[].key".
func nameLeaves(leaves []*leaf) error {
	seen := make(map[string]bool, len(leaves))
	for i, l := range leaves {
		var path []*node
		for n := l.node; n.parent != nil; n = n.parent {
			path = append(path, n)
		}
		slices.Reverse(path)
		var name strings.Builder
		for j, n := range path {
			l.path = append(l.path, n.name)
			inList := j > 0 && (path[j-1].isList() || path[j-1].isMap()) && n.repetition == repeated && len(path[j-1].nodes) == 1
			item := j > 1 && path[j-2].isList() && path[j-1].repetition == repeated && len(path[j-2].nodes) == 1 && len(path[j-1].nodes) == 1
			if !inList && !item {
				if n.name == "" {
					return fmt.Errorf("column %d has no name", i+1)
				}
				if j > 0 {
					name.WriteByte('.')
				}
				name.WriteString(n.name)
			}
			if n.repetition == repeated {
				name.WriteString("[]")
			}
		}
		l.name = name.String()
		if len(l.name) > maxName {
			return fmt.Errorf("column %d has a name of more than %d bytes", i+1, maxName)
		}
		// Lists are known by their names alone.
		if l.rep == 0 && isList(l.name) {
			return invalid("Rename the column.", "column %d has [] in its name and is no list", i+1)
		}
		if seen[l.name] {
			return invalid("Rename one of the two columns.", "column %d has the name of another", i+1)
		}
		seen[l.name] = true
		l.kind = kindOf(l.node)
	}
	return nil
}

func isList(column string) bool { return strings.Contains(column, "[]") }

func (n *node) isList() bool {
	return n.physical < 0 && (n.logical.member == logicalList || n.logical.member == 0 && n.converted == convertedList)
}

func (n *node) isMap() bool {
	return n.physical < 0 && (n.logical.member == logicalMap || n.logical.member == 0 && (n.converted == convertedMap || n.converted == convertedMapKeyValue))
}

// kind is how values of a column are read and written as text.
type kind uint8

const (
	kindOpaque  kind = iota // not understood: its bytes in hexadecimal; may not leave
	kindText                // UTF-8
	kindBinary              // bytes without a meaning: leave only where they are UTF-8
	kindBool                // true, false
	kindInt                 // decimal
	kindUint                // decimal
	kindFloat               // shortest decimal that reads back the same
	kindDecimal             // decimal with all digits of its scale
	kindDate                // 2006-01-02
	kindTime                // 15:04:05.999999999, with Z where adjusted to UTC
	kindTimestamp
	kindInt96 // a timestamp, not said in which zone
	kindUUID  // 8-4-4-4-12
)

const (
	maxDecimal = 64 // bytes of a decimal's unscaled value
	maxScale   = 150
)

// kindOf finds what a column holds, and puts what the older annotations say
// into the newer ones. What does not fit together is opaque.
func kindOf(n *node) kind {
	member := n.logical.member
	if member == 0 {
		fromConverted(n)
		member = n.logical.member
		n.older = member != 0
	}
	is := func(physical ...int32) bool { return slices.Contains(physical, n.physical) }
	switch member {
	case 0:
		if n.converted >= 0 {
			return kindOpaque // BSON, INTERVAL, and what is to come
		}
	case logicalString, logicalEnum, logicalJSON:
		if is(typeBytes) {
			return kindText
		}
		return kindOpaque
	case logicalDecimal:
		fits := is(typeInt32, typeInt64, typeBytes) || is(typeFixed) && 0 < n.length && n.length <= maxDecimal
		if fits && 0 <= n.scale && n.scale <= n.precision && 0 < n.precision && n.precision <= maxScale {
			return kindDecimal
		}
		return kindOpaque
	case logicalDate:
		if is(typeInt32) {
			return kindDate
		}
		return kindOpaque
	case logicalTime:
		if is(typeInt32) && n.logical.unit == 1 || is(typeInt64) && (n.logical.unit == 2 || n.logical.unit == 3) {
			return kindTime
		}
		return kindOpaque
	case logicalTimestamp:
		if is(typeInt64) && 1 <= n.logical.unit && n.logical.unit <= 3 {
			return kindTimestamp
		}
		return kindOpaque
	case logicalInt:
		w := n.logical.width
		if !(is(typeInt32) && (w == 8 || w == 16 || w == 32) || is(typeInt64) && w == 64) {
			return kindOpaque
		}
		if n.logical.signed {
			return kindInt
		}
		return kindUint
	case logicalNull:
		// Every value is null; the type is what it is.
	case logicalUUID:
		if is(typeFixed) && n.length == 16 {
			return kindUUID
		}
		return kindOpaque
	default:
		return kindOpaque
	}
	switch n.physical {
	case typeBoolean:
		return kindBool
	case typeInt32, typeInt64:
		return kindInt
	case typeFloat, typeDouble:
		return kindFloat
	case typeInt96:
		return kindInt96
	}
	return kindBinary
}

// fromConverted says by the newer LogicalType what the older ConvertedType
// does, as LogicalTypes.md of the format's specification maps them.
func fromConverted(n *node) {
	l := &n.logical
	switch c := n.converted; c {
	case convertedUTF8:
		l.member = logicalString
	case convertedEnum:
		l.member = logicalEnum
	case convertedJSON:
		l.member = logicalJSON
	case convertedDecimal:
		l.member = logicalDecimal
	case convertedDate:
		l.member = logicalDate
	case convertedTimeMillis, convertedTimeMicros:
		*l = logical{member: logicalTime, utc: true, unit: int16(c - convertedTimeMillis + 1)}
	case convertedTimestampMillis, convertedTimestampMicros:
		*l = logical{member: logicalTimestamp, utc: true, unit: int16(c - convertedTimestampMillis + 1)}
	default:
		if convertedUint8 <= c && c <= convertedInt64 {
			i := c - convertedUint8
			*l = logical{member: logicalInt, width: int8(8 << (i % 4)), signed: i >= 4}
		}
	}
}

// width is the bytes of a value; 0 where values differ.
func (n *node) width() int {
	switch n.physical {
	case typeBoolean:
		return 1 // as we hold it
	case typeInt32, typeFloat:
		return 4
	case typeInt64, typeDouble:
		return 8
	case typeInt96:
		return 12
	case typeFixed:
		return int(n.length)
	}
	return 0
}
