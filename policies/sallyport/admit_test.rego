# METADATA
# title: Tests of door 1
package sallyport.admit_test

import data.sallyport.admit
import data.sallyport.fixtures_test as f

decide(doc) := verdict if {
	verdict := admit.verdict with input as doc
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.rules
		with data.register as f.register
}

asked(values) := decide(f.with_values(f.request, values))

# A denial by exactly this rule, for exactly this reason.
denied(verdict, rule, reason) if {
	verdict.allow == false
	verdict.rules == {rule}
	verdict.reasons == {reason}
}

test_outside_deidentified if {
	v := decide(f.outside)
	v.allow == true
	v.reasons == []
	v.destination == "outside"
	v.masks == {
		"patient": {"pseudonym": {"length": 16}},
		"notes": {"drop": {}},
		"age": {"generalize": {"width": 10}},
		"diagnosis": {},
		"income": {"cap": {"top": 100000}},
		"ward": {},
	}
	v.limits == {
		"key_ttl": 1800,
		"price": 5000000,
		"budget": 20000000,
		"copies": 2,
		"regions": {"de", "fr"},
		"min_class": 10,
		"max_unique": 0,
		"reviews": 0,
	}
	{"admit.role", "admit.member", "admit.purpose", "admit.column.proposed", "admit.column.keep"} - v.rules == set()
}

test_local_keeps_raw_but_direct if {
	v := asked({})
	v.allow == true
	v.destination == "local"
	v.masks == {
		"patient": {"pseudonym": {"length": 16}},
		"notes": {"drop": {}},
		"age": {},
		"town": {},
		"visit": {},
		"diagnosis": {},
		"income": {},
		"genome": {},
		"ward": {},
	}
	v.limits.regions == []
	v.limits.min_class == 0
	v.limits.max_unique == 1
	"admit.column.raw" in v.rules
}

# Each class: where it goes by default, and whether outside is allowed.
test_destination_by_class[dataset] if {
	some dataset, want in {
		"census": ["outside", true, 1],
		"staff": ["outside", true, 5],
		"cohort": ["local", true, 10],
		"genomes": ["local", false, 0],
	}
	asked({"/dataset": dataset}).destination == want[0]
	out := decide(f.with_values(f.outside, {"/dataset": dataset}))
	out.allow == want[1]
	object.get(out, ["limits", "min_class"], 0) == want[2]
}

test_local_is_always_fine[dataset] if {
	some dataset in ["census", "staff", "cohort", "genomes"]
	v := asked({"/dataset": dataset, "/request/where": "local"})
	v.allow == true
	v.destination == "local"
}

test_restricted_stays if {
	denied(
		decide(f.with_values(f.outside, {"/dataset": "genomes"})),
		"admit.destination",
		"dataset genomes is restricted: it stays on the local cluster; submit without where=outside",
	)
}

test_unknown_where if {
	denied(asked({"/request/where": "moon"}), "admit.request", `where is "moon": it is local, outside or left out`)
}

test_negative_price if {
	denied(asked({"/request/max_price": -1}), "admit.request", "the request has a value that policy does not know")
}

test_negative_copies if {
	denied(asked({"/request/copies": -1}), "admit.request", "the request has a value that policy does not know")
}

test_role[name] if {
	some name, roles in {"none": [], "officer": ["officer"], "admin": ["admin"], "unknown": ["king"]}
	denied(
		asked({"/subject/roles": roles}),
		"admit.role",
		"ada has no role that may run jobs; ask an administrator for the role researcher",
	)
}

test_role_withdrawn_by_site if {
	v := admit.verdict with input as f.request
		with data.catalog as f.catalog
		with data.site as f.with_values(f.site, {"/people/ada/roles": []})
		with data.rules as f.rules
	v.rules == {"admit.role"}
}

test_role_of_unlisted_person if {
	v := admit.verdict with input as f.request
		with data.catalog as f.catalog
		with data.site as object.remove(f.site, ["people"])
		with data.rules as f.rules
	v.allow == true
}

test_unknown_project if {
	denied(asked({"/project": "ghost"}), "admit.project", "project ghost is not known here")
}

test_stranger if {
	denied(
		asked({"/subject/id": "eve", "/subject/projects": []}),
		"admit.member",
		"eve is not a member of project lungs",
	)
}

test_member_by_own_list_only if {
	asked({"/subject/id": "guest", "/subject/projects": ["lungs"]}).allow == true
}

test_member_by_projects_list_only if {
	asked({"/subject/id": "guest", "/project": "open", "/subject/projects": []}).allow == true
}

test_membership_withdrawn_by_site if {
	v := admit.verdict with input as f.request
		with data.catalog as f.catalog
		with data.site as f.with_values(f.site, {"/people/ada/projects": [], "/projects/lungs/members": []})
		with data.rules as f.rules
	v.rules == {"admit.member"}
}

test_project_with_null_lists if {
	denied(asked({"/project": "bare"}), "admit.member", "ada is not a member of project bare")
	asked({"/project": "bare", "/subject/id": "guest", "/subject/projects": ["bare"]}).allow == true
}

test_unknown_dataset_says_only_that if {
	denied(asked({"/dataset": "ghost"}), "admit.dataset", "dataset ghost is not in the catalog")
}

test_unknown_sensitivity if {
	denied(
		asked({"/dataset": "odd"}),
		"admit.dataset",
		"dataset odd has the sensitivity secret, which policy has no row for",
	)
}

test_purpose_of_dataset if {
	denied(
		asked({"/project": "open", "/purpose": "marketing"}),
		"admit.purpose",
		"dataset cohort may not be used for marketing; its purposes are: research, teaching",
	)
}

test_purpose_of_project if {
	denied(
		asked({"/purpose": "teaching"}),
		"admit.project_purpose",
		"project lungs does not have the purpose teaching; it has: research",
	)
}

test_project_without_purposes_has_all if {
	asked({"/project": "open", "/purpose": "teaching"}).allow == true
}

test_nothing_may_leave if {
	denied(
		decide(f.with_values(f.outside, {"/dataset": "names"})),
		"admit.columns",
		"no column of dataset names may leave: each needs a mask that policy accepts for its role",
	)
}

test_every_cause_is_said if {
	v := asked({"/subject/roles": [], "/purpose": "marketing", "/project": "open"})
	v.rules == {"admit.role", "admit.purpose"}
	count(v.reasons) == 2
}

test_request_lowers_price if {
	asked({"/request/max_price": 1}).limits.price == 1
}

test_request_cannot_raise_price if {
	asked({"/request/max_price": 6000000}).limits.price == 5000000
}

test_price_zero_is_the_cap if {
	asked({"/request/max_price": 0}).limits.price == 5000000
}

test_request_raises_copies if {
	asked({"/request/copies": 5}).limits.copies == 5
}

test_request_cannot_lower_copies if {
	decide(f.with_values(f.outside, {"/request/copies": 1})).limits.copies == 2
}

test_budget_without_the_projects if {
	asked({"/project": "open"}).limits.budget == 100000000
}

# Two columns of one name with two treatments are an error, which no test can
# catch (policy.TestColumnNamedTwice does). With one treatment they are one.
test_column_named_twice if {
	catalog := f.with_values(f.catalog, {"/datasets/cohort/columns/1": {"name": "age", "role": "insensitive"}})
	count({v | v := admit.verdict with input as f.request
		with data.catalog as catalog
		with data.site as f.site
		with data.rules as f.rules}) == 1
}

test_hole_in_the_table_is_no if {
	hole := json.remove(f.rules, ["classes/confidential/local/min_class"])
	v := admit.verdict with input as f.request
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as hole
	v == {"allow": false, "reasons": ["no rule allows this"], "rules": ["admit.default"]}
}

test_missing_fact_is_no[path] if {
	some path in ["subject", "project", "purpose", "dataset"]
	v := decide(json.remove(f.request, [path]))
	v.allow == false
	count(v.reasons) > 0
}

test_empty_input_is_no if {
	decide({}).allow == false
}

test_no_data_is_no if {
	v := admit.verdict with input as f.request
		with data.catalog as {}
		with data.site as {}
		with data.rules as f.rules
	v.allow == false
}

test_no_table_is_no if {
	v := admit.verdict with input as f.request
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as {}
	v.allow == false
}

# What has no exact sentence has its plain one.
test_fallback_sentence if {
	v := decide(json.remove(f.with_values(f.request, {"/subject/roles": []}), ["subject/id"]))
	"this person has no role that may run jobs" in v.reasons
}

# A steward may keep a quasi-identifier as it is, never a direct identifier.
test_outside_kept_by_the_steward if {
	columns := [
		{"name": "patient", "role": "direct", "mask": {"verb": "keep"}},
		{"name": "sex", "role": "quasi", "mask": {"verb": "keep", "args": null}},
		{"name": "town", "role": "quasi"},
	]
	cohort := object.union(f.catalog.datasets.cohort, {"columns": columns})
	v := admit.verdict with input as f.outside
		with data.catalog as {"datasets": {"cohort": cohort}}
		with data.site as f.site
		with data.rules as f.rules
	v.allow == true
	v.masks == {"sex": {}}
	"admit.column.kept" in v.rules
}

with_rows(rows) := verdict if {
	verdict := admit.verdict with input as f.request
		with data.catalog as f.catalog
		with data.site as f.with_values(f.site, {"/projects/lungs/rows": rows})
		with data.rules as f.rules
}

test_no_row_filter if {
	asked({}).rows == set()
	with_rows({}).rows == set()
	with_rows({"genomes": {"ward": []}}).rows == set()
	asked({"/project": "east", "/dataset": "staff"}).rows == set()
}

test_row_filter_on_both_sides[where] if {
	some where in ["local", "outside"]
	v := asked({"/project": "east", "/request/where": where})
	v.allow == true
	v.destination == where
	v.rows == {{"column": "town", "in": ["x"]}, {"column": "ward", "in": ["e1", "e2"]}}
	"admit.rows" in v.rules
}

test_row_filter_on_what_does_not_leave if {
	v := with_rows({"cohort": {"name": ["someone"]}})
	v.allow == true
	not v.masks.name
	v.rows == {{"column": "name", "in": ["someone"]}}
}

test_row_filter_that_lets_nothing_leave if {
	with_rows({"cohort": {"ward": []}}).rows == {{"column": "ward", "in": []}}
}

test_row_filter_of_a_foreign_column if {
	denied(
		with_rows({"cohort": {"ward": ["e1"], "region": ["x"]}}),
		"admit.rows",
		concat("", [
			"project lungs may see only some rows of dataset cohort, told by a column that the dataset does not have: ",
			"region; correct the project's rows or the catalog",
		]),
	)
}

# What is no row filter is not read as none.
test_ill_formed_row_filter[name] if {
	some name, rows in {
		"null": null,
		"list": ["cohort"],
		"text": "cohort",
		"dataset null": {"cohort": null},
		"dataset list": {"cohort": ["ward"]},
		"values null": {"cohort": {"ward": null}},
		"values text": {"cohort": {"ward": "e1"}},
		"values numbers": {"cohort": {"ward": ["e1", 2]}},
	}
	denied(with_rows(rows), "admit.rows", "the project's row filter for this dataset is none that policy understands")
}

# Of the rules for columns, exactly those that were applied are named.
treated_by(verdict) := {rule | some rule in verdict.rules; startswith(rule, "admit.column.")}

only(columns) := verdict if {
	verdict := admit.verdict with input as f.outside
		with data.catalog as {"datasets": {"cohort": object.union(f.catalog.datasets.cohort, {"columns": columns})}}
		with data.site as f.site
		with data.rules as f.rules
}

test_labels_of_columns if {
	treated_by(decide(f.outside)) == {"admit.column.proposed", "admit.column.keep"}
	treated_by(asked({})) == {"admit.column.proposed", "admit.column.raw"}
	treated_by(only([{"name": "a", "role": "sensitive"}])) == {"admit.column.keep"}
	treated_by(only([{"name": "a", "role": "quasi", "mask": {"verb": "keep"}}])) == {"admit.column.kept"}
	treated_by(only([{"name": "a", "role": "quasi", "mask": {"verb": "cap"}}])) == {"admit.column.proposed"}
}

inside(choices) := verdict if {
	verdict := admit.verdict with input as f.request
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.with_values(f.rules, {"/columns/inside/quasi": choices})
}

# Where a role is kept whatever is proposed, its other entries do not count; and
# that entry can say nothing else.
test_whatever_is_proposed if {
	inside({"*": "keep", "generalize": "apply"}).masks.age == {}
	inside({"generalize": "apply"}).masks.age == {"generalize": {"width": 10}}
	every word in ["apply", "raw", true] { not inside({"*": word}).masks.age }
}
