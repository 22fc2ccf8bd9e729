package parquet_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/testkit"
)

// sql runs statements, and returns the result of each, a row a line.
func sql(t *testing.T, python string, statements ...string) []string {
	t.Helper()
	const script = `
import duckdb, sys
c = duckdb.connect()
c.execute("set timezone='UTC'")
print("\0".join("\n".join(map(repr, c.execute(s).fetchall())) for s in sys.stdin.read().split("\0")), end="")
`
	cmd := exec.Command(python, "-c", script)
	cmd.Stdin = strings.NewReader(strings.Join(statements, "\x00"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("duckdb: %v\n%s", err, out)
	}
	return strings.Split(string(out), "\x00")
}

const table = `select
  i::bigint as id, (i % 7)::tinyint as tiny, (i % 7)::utinyint as utiny, (-i*40)::smallint as small, (i*90)::usmallint as usmall,
  (-i)::integer as int, (i*1000)::uinteger as uint, (i::ubigint + 18446744073709000000::ubigint) as ubig, (i::hugeint)::decimal(38,4) as huge,
  (i % 2 = 0) as yes, (i / 3.0)::float as real, (i / 7.0)::double as double,
  case when i % 5 = 0 then null when i % 5 = 1 then '' else 'text ' || (i % 50) end as text,
  (i / 100 - 5.37)::decimal(4,2) as d4, (i / 100 - 5.37)::decimal(9,3) as d9, (i / 100 - 5.37)::decimal(18,6) as d18,
  date '1600-02-29' + (i * 300)::integer as day, time '00:00:00' + to_microseconds(i * 86000000 + i) as clock,
  timestamp '1969-12-31 23:59:59' + to_microseconds(i * 7777777) as micros, make_timestamp_ns(i::bigint * 1234567891) as nanos,
  (timestamp '2020-01-01' + to_seconds(i))::timestamp_ms as millis, timestamptz '2021-06-01 12:00:00+00' + to_seconds(i) as zoned,
  ('00000000-0000-4000-8000-' || lpad(i::varchar, 12, '0'))::uuid as uuid, ('{"a":' || i || '}')::json as json,
  case when i % 3 = 0 then null else {'city': 'c' || i, 'zip': case when i % 4 = 0 then null else i end} end as place,
  case when i % 4 = 0 then null when i % 4 = 1 then [] else [i, null, i + 1] end as numbers,
  map {'k' || i: i} as pairs, [{'a': i, 'b': 'x'}] as structs,
  (case i % 3 when 0 then 'red' else 'blue' end)::enum('red', 'blue') as color
  from range(700) t(i)`

// What DuckDB wrote and we copied, DuckDB reads as it was: types, nulls, values.
func TestDuckDBReadsACopy(t *testing.T) {
	python := testkit.Python(t, "duckdb")
	for _, options := range []string{
		"codec 'uncompressed'", "codec 'snappy', row_group_size 2048", "codec 'gzip'", "codec 'zstd'", "codec 'lz4_raw'", "codec 'brotli'",
		"codec 'zstd', parquet_version v2",
	} {
		t.Run(options, func(t *testing.T) {
			dir := t.TempDir()
			in, out := filepath.Join(dir, "in.parquet"), filepath.Join(dir, "out.parquet")
			sql(t, python, fmt.Sprintf("copy (%s) to '%s' (format parquet, %s)", table, in, options))
			data, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			e := &editor{}
			if err := os.WriteFile(out, rewrite(t, data, e), 0o600); err != nil {
				t.Fatal(err)
			}
			if e.records != 700 {
				t.Errorf("%d records", e.records)
			}
			queries := []string{
				"describe select * from '%s'", "select * from '%s' order by id", "select id, real::double, double from '%s' where real != real or id < 5",
				"select name, type, type_length, repetition_type, num_children, converted_type, scale, precision, logical_type from parquet_schema('%s') where name not in ('schema', 'duckdb_schema')",
				"select row_group_id, path_in_schema, compression, num_values from parquet_metadata('%s')",
			}
			var statements []string
			for _, q := range queries {
				statements = append(statements, fmt.Sprintf(q, in), fmt.Sprintf(q, out))
			}
			results := sql(t, python, statements...)
			for i, q := range queries {
				was, is := results[2*i], results[2*i+1]
				if strings.Contains(q, "parquet_schema") {
					// DuckDB writes every column as one that can be null.
					was = strings.ReplaceAll(was, "REQUIRED", "OPTIONAL")
					is = strings.ReplaceAll(is, "REQUIRED", "OPTIONAL")
				}
				if was != is {
					t.Errorf("%s:\n%s", q, firstDifference(was, is))
				}
			}
		})
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] + "\n" + y[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// What we say of a value is what DuckDB says when asked for text.
func TestDuckDBAgreesOnText(t *testing.T) {
	python := testkit.Python(t, "duckdb")
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.parquet"), filepath.Join(dir, "out.parquet")
	sql(t, python, fmt.Sprintf("copy (%s) to '%s' (format parquet)", table, in))
	data, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"id", "tiny", "utiny", "small", "usmall", "int", "uint", "ubig", "huge", "yes", "real", "double", "text", "d4", "d9", "d18", "day", "clock", "micros", "nanos", "millis", "zoned", "uuid", "json", "color"}
	e := &editor{text: map[string]bool{"place.city": true, "place.zip": true, "numbers[]": true, "pairs[].key": true, "pairs[].value": true, "structs[].a": true, "structs[].b": true}}
	for _, n := range names {
		e.text[n] = true
	}
	if err := os.WriteFile(out, rewrite(t, data, e), 0o600); err != nil {
		t.Fatal(err)
	}
	types := sql(t, python, fmt.Sprintf("select distinct type, logical_type from parquet_schema('%s') where type is not null", out))[0]
	if types != "('BYTE_ARRAY', 'StringType()')" {
		t.Errorf("types of text: %s", types)
	}
	casts := []string{}
	for _, n := range names {
		switch n {
		case "micros", "nanos", "millis":
			casts = append(casts, fmt.Sprintf("replace(%s::varchar, ' ', 'T') as %s", n, n))
		case "zoned":
			casts = append(casts, "strftime(zoned::timestamp, '%Y-%m-%dT%H:%M:%SZ') as zoned")
		case "real", "double":
			casts = append(casts, fmt.Sprintf("regexp_replace(%s::varchar, '\\.0$', '') as %s", n, n))
		default:
			casts = append(casts, fmt.Sprintf("%s::varchar as %s", n, n))
		}
	}
	nested := "place.city as city, place.zip::varchar as zip, numbers::varchar[] as numbers, map_keys(pairs) as k, map_values(pairs)::varchar[] as v, structs[1].a::varchar as a, structs[1].b as b"
	casts = append(casts, nested)
	var statements []string
	for _, n := range casts {
		plain := n
		if n != nested {
			plain = n[strings.LastIndex(n, " as ")+4:]
			if plain == "huge" || plain == "zoned" {
				plain = strings.Split(n, " as ")[1]
			}
		}
		statements = append(statements, fmt.Sprintf("select %s from '%s'", n, in), fmt.Sprintf("select %s from '%s'", plain, out))
	}
	results := sql(t, python, statements...)
	for i, n := range casts {
		if was, is := results[2*i], results[2*i+1]; was != is {
			t.Errorf("%s:\n%s", n, firstDifference(was, is))
		}
	}
}

// Values that a transform changed are of their type, or null.
func TestDuckDBReadsChangedValues(t *testing.T) {
	python := testkit.Python(t, "duckdb")
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.parquet"), filepath.Join(dir, "out.parquet")
	sql(t, python, fmt.Sprintf("copy (select 1 as a, date '2020-01-01' as b, 'x' as c, {'x': 1.5::decimal(4,2), 'y': 'y'} as s, [1, 2] as l union all select 2, null, null, null, null) to '%s' (format parquet)", in))
	data, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	to := func(s string) func(string) string { return func(string) string { return s } }
	e := &editor{text: map[string]bool{"s.y": true}, change: map[string]func(string) string{
		"a": func(s string) string { return map[string]string{"1": "*", "2": "7"}[s] },
		"b": to("2021-12-31"), "c": to("*"), "s.x": to("2.25"), "s.y": to(""), "l[]": func(s string) string { return map[string]string{"1": "no", "2": "9"}[s] },
	}}
	if err := os.WriteFile(out, rewrite(t, data, e), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = `(None, '2021-12-31', '*', Decimal('2.25'), None, [None, 9])
(7, '2021-12-31', '*', None, None, None)`
	if got := sql(t, python, fmt.Sprintf("select a, b::varchar, c, s.x, s.y, l from '%s'", out))[0]; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
