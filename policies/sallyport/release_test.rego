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
	some field in ["min_records", "min_class", "max_unique", "min_combined", "max_undeclared", "residual", "may", "columns"]
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

earlier(destination) := {"job": "j0", "dataset": "cohort", "time": "2030-01-01T00:00:00Z", "destination": destination}

# What was measured where the dataset left before.
together := {
	"records": 4000, "classes": 30, "smallest_class": 10, "unique_share": 0,
	"highest": 0.1, "average": 0.0075, "exact": true, "quasi": ["age"],
}

again(values) := measured(object.union({"/history": [earlier("outside")], "/facts/combined": together}, values))

test_combined_may_leave if again({}).allow == true

test_combined_smallest_class[n] if {
	some n, ok in {0: false, 1: false, 9: false, 10: true, 11: true}
	again({"/facts/combined/smallest_class": n}).allow == ok
}

test_combined_says_numbers if {
	denied(
		again({"/facts/combined/smallest_class": 1}),
		"release.combined",
		concat("", [
			"together with earlier releases the smallest equivalence class is 1 record; confidential data may leave only from 10 up: ",
			"treat columns and rows as an earlier release did, or ask for an exception",
		]),
	)
}

# Two releases of which each is safe: what the second alone shows is nothing to go by.
test_combined_not_measured if {
	denied(
		measured({"/history": [earlier("outside"), earlier("local"), earlier("outside")]}),
		"release.combined",
		"2 releases of cohort went outside before, and what they say together with this one was not measured",
	)
	denied(
		measured({"/history": [earlier("outside")]}),
		"release.combined",
		"1 release of cohort went outside before, and what they say together with this one was not measured",
	)
	again({"/facts/combined": null}).rules == {"release.combined"}
}

test_combined_is_not_asked_for_first_releases[name] if {
	some name, history in {"none": [], "inside": [earlier("local"), earlier("local")]}
	measured({"/history": history}).allow == true
}

# A release that does not say where it went may have gone outside.
test_combined_unknown_destination[name] if {
	some name, entry in {"absent": {"job": "j0"}, "null": {"destination": null}, "other": {"destination": "moon"}}
	measured({"/history": [entry]}).rules == {"release.combined"}
}

test_combined_history_missing[name] if {
	some name, doc in {
		"absent": json.remove(f.releasing, ["history"]),
		"null": f.with_values(f.releasing, {"/history": null}),
	}
	"release.combined" in decide(doc).rules
}

test_combined_is_judged_without_a_history_too if {
	again({"/history": [], "/facts/combined/smallest_class": 3}).rules == {"release.combined"}
}

test_combined_inexact if {
	denied(
		again({"/facts/combined/exact": false}),
		"release.combined",
		concat("", [
			"what earlier releases and this one say together was not measured on all records: the census memory did not suffice, ",
			"or a column, a verb or a hierarchy of an earlier release is gone",
		]),
	)
}

test_combined_counts_every_quasi if {
	denied(
		again({"/facts/combined/quasi": ["town"]}),
		"release.combined",
		"what earlier releases and this one say together was not measured over these quasi-identifiers: age",
	)
	again({"/facts/combined/quasi": ["town", "age"]}).allow == true
}

test_combined_without_a_fact_is_no[name] if {
	some name, value in {"exact": null, "smallest_class": null, "smallest_class/": "12", "quasi": null}
	v := again({concat("", ["/facts/combined/", trim_right(name, "/")]): value})
	v.allow == false
	v.rules == {"release.combined"}
}

# Inside, nobody is asked what was known before.
test_combined_is_not_asked_inside if {
	decide(f.with_values(inside, {"/history": [earlier("outside")]})).allow == true
	decide(f.with_values(inside, {"/history": [earlier("outside")], "/facts/combined": together})).allow == true
}

eased(values, exceptions) := verdict if {
	verdict := release.verdict with input as f.with_values(f.releasing, object.union(
		{"/history": [earlier("outside")], "/facts/combined": together},
		values,
	))
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.rules
		with data.register as object.union(f.register, {"exceptions": exceptions})
}

waiver := {"e7": object.union(f.exception, {"checks": ["release.combined"]})}

test_combined_by_exception if {
	v := eased({"/facts/combined/smallest_class": 3}, waiver)
	v.allow == true
	{"release.combined", "exception.e7"} - v.rules == set()
	not "exception.e7" in eased({}, waiver).rules
}

# An exception lowers the class as far as the table lets it, and waives no measurement.
test_combined_exception_has_a_floor if {
	denied(
		eased({"/facts/combined/smallest_class": 2}, waiver),
		"release.combined",
		concat("", [
			"together with earlier releases the smallest equivalence class is 2 records; confidential data may leave only from 3 up: ",
			"treat columns and rows as an earlier release did, or ask for an exception",
		]),
	)
	eased({"/facts/combined/exact": false}, waiver).rules == {"release.combined"}
	eased({"/facts/combined": null}, waiver).rules == {"release.combined"}
}

test_combined_needs_an_exception_of_its_own if {
	eased({"/facts/combined/smallest_class": 3}, {"e7": f.exception}).rules == {"release.combined"}
}

note(share) := {"column": "diagnosis", "unique_share": share}

test_undeclared_share[share] if {
	some share, ok in {-1: false, 0: true, 0.02: true, 0.5: true, 0.51: false, 1: false}
	measured({"/facts/undeclared": [note(share)]}).allow == ok
}

test_undeclared_says_columns if {
	denied(
		measured({"/facts/undeclared": [
			{"column": "ward", "unique_share": 0.1},
			note(0.97),
			{"column": "income", "unique_share": 1, "estimated": true},
		]}),
		"release.undeclared",
		concat("", [
			"columns that nobody declared quasi-identifiers tell people apart by themselves: ",
			"diagnosis (3880 of 4000 records), income (about 4000 of 4000 records); ",
			"confidential data may leave only up to a share of 0.5: declare them quasi, round or generalize them, or drop them",
		]),
	)
}

test_undeclared_without_a_share if {
	denied(
		measured({"/facts/undeclared": [{"column": "diagnosis", "unique_share": null}]}),
		"release.undeclared",
		concat("", [
			"columns that nobody declared quasi-identifiers tell people apart by themselves: diagnosis; ",
			"confidential data may leave only up to a share of 0.5: declare them quasi, round or generalize them, or drop them",
		]),
	)
	measured({"/facts/undeclared": [{}]}).rules == {"release.undeclared"}
}

# What is asked for and was not measured denies.
test_undeclared_not_measured[name] if {
	some name, doc in {
		"absent": json.remove(f.releasing, ["facts/undeclared"]),
		"null": f.with_values(f.releasing, {"/facts/undeclared": null}),
		"object": f.with_values(f.releasing, {"/facts/undeclared": {}}),
	}
	decide(doc).rules == {"release.undeclared"}
}

test_undeclared_is_not_asked_inside_nor_of_public_data if {
	decide(f.with_values(inside, {"/facts/undeclared": [note(1)]})).allow == true
	measured({"/dataset": "census", "/facts/undeclared": [note(1)]}).allow == true
	measured({"/dataset": "staff", "/facts/undeclared": [note(1)]}).rules == {"release.undeclared"}
}

test_undeclared_by_exception if {
	e := {"e8": object.union(f.exception, {"checks": ["release.undeclared"]})}
	v := eased({"/facts/undeclared": [note(1)]}, e)
	v.allow == true
	{"release.undeclared", "exception.e8"} - v.rules == set()
}

# null in the table is less than any number, and must not be taken for a bound.
test_null_in_the_table_is_no[path] if {
	some path in ["/classes/confidential/outside/min_combined", "/classes/confidential/outside/max_undeclared"]
	v := release.verdict with input as f.with_values(f.releasing, {"/history": [earlier("outside")], "/facts/combined": together})
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.with_values(f.rules, {path: null})
	v.allow == false
}

test_floor_of_exceptions_is_a_number[name] if {
	some name, floor in {"null": null, "one": 1, "text": "3"}
	v := release.verdict with input as f.with_values(f.releasing, {
		"/history": [earlier("outside")],
		"/facts/combined": object.union(together, {"smallest_class": 3}),
	})
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.with_values(f.rules, {"/exceptions/min_class": floor})
		with data.register as object.union(f.register, {"exceptions": waiver})
	v.rules == {"release.combined"}
}
