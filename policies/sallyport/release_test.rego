# METADATA
# title: Tests of door 2
package sallyport.release_test

import data.sallyport.fixtures_test as f
import data.sallyport.release

decide(doc) := verdict if {
	verdict := release.verdict with input as doc
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.rules
		with data.register as f.register
}

measured(values) := decide(f.with_values(f.releasing, values))

denied(verdict, rule, reason) if {
	verdict.allow == false
	verdict.rules == {rule}
	verdict.reasons == {reason}
}

inside := f.with_values(f.releasing, {
	"/dataset": "genomes",
	"/request/where": "local",
	"/destination": "local",
	"/admitted/min_class": 0,
	"/admitted/max_unique": 1,
	"/facts/columns": ["patient", "age", "town", "visit", "diagnosis", "income", "genome", "ward"],
	"/facts/cleared": ["age", "town", "visit", "diagnosis", "income", "genome", "ward"],
	"/facts/actions": {
		"patient": "pseudonym", "age": "keep", "town": "keep", "visit": "keep",
		"diagnosis": "keep", "income": "keep", "genome": "keep", "ward": "keep",
	},
	"/facts/risk/quasi": ["age", "town", "visit"],
	"/facts/risk/smallest_class": 1,
	"/facts/risk/unique_share": 0.9,
	"/facts/residual": {"email": 3},
})

test_safe_leaves if {
	v := decide(f.releasing)
	v.allow == true
	v.reasons == []
	v.rules == object.keys(release.checks)
}

test_local_is_lenient if decide(inside).allow == true

test_local_empty_table if {
	decide(f.with_values(inside, {"/facts/risk/records": 0, "/facts/risk/smallest_class": 0})).allow == true
}

test_local_must_be_exact_too if {
	decide(f.with_values(inside, {"/facts/risk/exact": false})).rules == {"release.exact"}
}

test_smallest_class[n] if {
	some n, ok in {1: false, 9: false, 10: true, 11: true}
	measured({"/facts/risk/smallest_class": n}).allow == ok
}

test_smallest_class_says_numbers if {
	denied(
		measured({"/facts/risk/smallest_class": 3}),
		"release.class",
		"smallest equivalence class is 3 records; confidential data may leave only from 10 up",
	)
	denied(
		measured({"/facts/risk/smallest_class": 1}),
		"release.class",
		"smallest equivalence class is 1 record; confidential data may leave only from 10 up",
	)
}

test_admitted_limit_counts_when_stricter if {
	denied(
		measured({"/admitted/min_class": 20}),
		"release.class",
		"smallest equivalence class is 12 records; confidential data may leave only from 20 up",
	)
}

test_table_counts_when_stricter if {
	measured({"/admitted/min_class": 0, "/facts/risk/smallest_class": 9}).rules == {"release.class"}
	measured({"/admitted/max_unique": 1, "/facts/risk/unique_share": 0.01}).rules == {"release.unique"}
}

test_unique_says_numbers if {
	denied(
		measured({"/facts/risk/unique_share": 0.01}),
		"release.unique",
		"40 of 4000 records are alone in their class; confidential data may leave only up to a share of 0",
	)
}

test_negative_share_is_no if {
	measured({"/facts/risk/unique_share": -1}).rules == {"release.unique"}
}

test_empty_table_does_not_leave if {
	denied(
		measured({"/facts/risk/records": 0, "/facts/risk/smallest_class": 0}),
		"release.records",
		"there are 0 records; confidential data may leave only from 1 up",
	)
}

test_inexact if {
	denied(
		measured({"/facts/risk/exact": false, "/facts/risk/smallest_class": 2}),
		"release.exact",
		"the risk was measured on part of the records only; raise the census memory or release fewer columns",
	)
}

test_census_must_count_every_quasi if {
	denied(
		measured({"/facts/risk/quasi": []}),
		"release.census",
		"the risk was not measured over these quasi-identifiers: age",
	)
}

test_census_may_count_more if measured({"/facts/risk/quasi": ["age", "diagnosis"]}).allow == true

test_residual if {
	denied(
		measured({"/facts/residual": {"email": 2, "phone": 0}}),
		"release.residual",
		"likely identifiers were seen in what would leave: 2 of type email",
	)
}

test_residual_zero_is_fine if measured({"/facts/residual": {"email": 0}}).allow == true

test_residual_negative_is_no if measured({"/facts/residual": {"email": -1}}).rules == {"release.residual"}

test_residual_by_type if {
	v := release.verdict with input as f.with_values(f.releasing, {"/facts/residual": {"email": 2}})
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.with_values(f.rules, {"/classes/confidential/outside/residual": {"email": "tolerate"}})
	v.allow == true
	w := release.verdict with input as f.with_values(f.releasing, {"/facts/residual": {"phone": 2}})
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.with_values(f.rules, {"/classes/confidential/outside/residual": {"email": "tolerate"}})
	w.rules == {"release.residual"}
}

test_residual_is_tolerated_in_public_data if {
	measured({"/dataset": "census", "/facts/residual": {"email": 2}, "/facts/risk/unique_share": 0.5}).rules == {"release.unique"}
	measured({"/dataset": "census", "/facts/residual": {"email": 2}}).allow == true
}

test_extra_column if {
	denied(
		measured({"/facts/columns": ["patient", "age", "diagnosis", "income", "ward", "town"]}),
		"release.columns",
		"these columns would leave without having been admitted: town",
	)
}

test_missing_column if {
	denied(
		measured({"/facts/columns": ["patient", "age", "diagnosis", "income"]}),
		"release.columns",
		"these admitted columns are missing: ward",
	)
}

test_column_twice if {
	denied(
		measured({"/facts/columns": ["patient", "age", "diagnosis", "income", "ward", "ward"]}),
		"release.columns",
		"other columns would leave than were admitted",
	)
}

test_other_verb if {
	denied(
		measured({"/facts/actions/age": "keep"}),
		"release.actions",
		"these columns were not treated as admitted: age",
	)
}

test_action_missing if {
	v := decide(json.remove(f.releasing, ["facts/actions/age"]))
	denied(v, "release.actions", "these columns were not treated as admitted: age")
}

test_cleared_more_than_admitted if {
	denied(
		measured({"/facts/cleared": ["diagnosis", "ward", "age"]}),
		"release.actions",
		"columns were not treated as was admitted",
	)
}

test_other_destination if {
	denied(
		measured({"/destination": "local"}),
		"release.destination",
		"it was admitted for outside and would go local",
	)
}

test_unknown_destination if measured({"/destination": "moon"}).allow == false

test_withdrawn_membership if {
	v := release.verdict with input as f.releasing
		with data.catalog as f.catalog
		with data.site as f.with_values(f.site, {"/people/ada/projects": [], "/projects/lungs/members": []})
		with data.rules as f.rules
	denied(v, "release.admitted", "the job would not be admitted any more: ada is not a member of project lungs")
}

test_raised_sensitivity if {
	v := release.verdict with input as f.releasing
		with data.catalog as f.with_values(f.catalog, {"/datasets/cohort/sensitivity": "restricted"})
		with data.site as f.site
		with data.rules as f.rules
	v.rules == {"release.admitted"}
}

test_changed_mask if {
	v := release.verdict with input as f.releasing
		with data.catalog as f.with_values(f.catalog, {"/datasets/cohort/columns/4/mask/verb": "drop"})
		with data.site as f.site
		with data.rules as f.rules
	v.rules == {"release.columns"}
}

# Without any one fact there is no release.
test_missing_fact_is_no[path] if {
	some path in [
		"destination", "admitted", "facts", "facts/risk", "facts/risk/exact", "facts/risk/records",
		"facts/risk/smallest_class", "facts/risk/unique_share", "facts/risk/quasi", "facts/columns",
		"facts/residual", "facts/actions", "facts/cleared", "admitted/min_class", "admitted/max_unique",
	]
	v := decide(json.remove(f.releasing, [path]))
	v.allow == false
	count(v.reasons) > 0
}

# Nor with any of them null.
test_null_fact_is_no[path] if {
	some path in [
		"/destination", "/facts/risk/exact", "/facts/risk/quasi", "/facts/columns",
		"/facts/residual", "/facts/actions", "/facts/cleared",
	]
	measured({path: null}).allow == false
}

test_empty_input_is_no if decide({}).allow == false

test_hole_in_the_table_is_no[field] if {
	some field in ["min_records", "min_class", "max_unique", "residual", "may", "columns"]
	hole := json.remove(f.rules, [concat("/", ["classes/confidential/outside", field])])
	v := release.verdict with input as f.releasing
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as hole
	v.allow == false
}

# The rows that the project may see, and those that the pass let through.
filtered(today, applied) := verdict if {
	verdict := release.verdict with input as f.with_values(f.releasing, {"/facts/rows": applied})
		with data.catalog as f.catalog
		with data.site as f.with_values(f.site, {"/projects/lungs/rows": {"cohort": today}})
		with data.rules as f.rules
}

test_rows_as_admitted if {
	filtered({"ward": ["e1", "e2"]}, [{"column": "ward", "in": ["e2", "e1"]}]).allow == true
	filtered({}, []).allow == true
}

test_rows_changed_while_the_job_waited[name] if {
	some name, rows in {
		"filter added": [{"ward": ["e1"]}, []],
		"filter taken away": [{}, [{"column": "ward", "in": ["e1"]}]],
		"narrowed": [{"ward": ["e1"]}, [{"column": "ward", "in": ["e1", "e2"]}]],
		"other column": [{"ward": ["e1"]}, [{"column": "town", "in": ["e1"]}]],
		"to nothing": [{"ward": []}, [{"column": "ward", "in": ["e1"]}]],
	}
	v := filtered(rows[0], rows[1])
	v.allow == false
	v.rules == {"release.rows"}
	v.reasons == {"other rows would leave than the project may see today; run the job again"}
}
