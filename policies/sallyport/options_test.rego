# METADATA
# title: Tests of what the table can say of regions, jobs, releases and standards
package sallyport.options_test

import data.sallyport.admit
import data.sallyport.fixtures_test as f
import data.sallyport.release

decide(doc, catalog, rules) := verdict if {
	verdict := admit.verdict with input as doc
		with data.catalog as catalog
		with data.site as f.site
		with data.register as f.register
		with data.rules as rules
}

denied(verdict, rule, reason) if {
	verdict.allow == false
	verdict.rules == {rule}
	verdict.reasons == {reason}
}

# The regions of a confidential or other dataset with that residency.
resident(dataset, residency) := decide(
	f.with_values(f.outside, {"/dataset": dataset}),
	f.with_values(f.catalog, {concat("", ["/datasets/", dataset, "/residency"]): residency}),
	f.rules,
)

test_anywhere if {
	resident("census", []).limits.regions == set()
	resident("census", null).limits.regions == set()
	resident("census", ["us"]).limits.regions == {"us"}
}

test_where_the_class_may_go if {
	regions := resident("cohort", []).limits.regions
	{"eea", "eu", "adequate", "de", "no", "ch", "eu-north"} - regions == set()
	not "us" in regions
	not "*" in regions
}

test_residency_within_the_class[name] if {
	some name, want in {
		"countries": [["de", "fr"], {"de", "fr"}],
		"one of them elsewhere": [["de", "us"], {"de"}],
		"adequate": [["ch"], {"ch"}],
	}
	resident("cohort", want[0]).limits.regions == want[1]
}

test_region_that_the_class_lists_itself if {
	v := decide(f.outside, f.catalog, f.with_values(f.rules, {"/classes/confidential/jurisdictions": ["de", "adequate"]}))
	v.limits.regions == {"de"}
}

test_residency_group if {
	regions := resident("cohort", ["eu"]).limits.regions
	{"eu", "de", "fr", "eu-west"} - regions == set()
	regions & {"no", "ch", "eea", "adequate"} == set()
	count(regions) == 33
}

test_nowhere_is_not_anywhere if {
	denied(
		resident("cohort", ["us", "br"]),
		"admit.jurisdiction",
		concat("", [
			"dataset cohort may be processed in br, us and confidential data in adequate, eea: ",
			"no region is in both; submit without where=outside",
		]),
	)
}

test_class_that_may_go_nowhere if {
	v := decide(f.outside, f.catalog, f.with_values(f.rules, {"/classes/confidential/jurisdictions": []}))
	denied(v, "admit.jurisdiction", "there is no region where the dataset may be processed")
	anywhere := f.with_values(f.catalog, {"/datasets/cohort/residency": []})
	decide(f.outside, anywhere, json.remove(f.rules, ["classes/confidential/jurisdictions"])).allow == false
	decide(f.outside, anywhere, f.with_values(f.rules, {"/classes/confidential/jurisdictions": []})).rules == {"admit.jurisdiction"}
}

test_local_is_nowhere_else if {
	v := decide(f.request, f.with_values(f.catalog, {"/datasets/cohort/residency": ["us"]}), f.rules)
	v.allow == true
	v.limits.regions == []
}

asked(values) := decide(f.with_values(f.request, values), f.catalog, f.rules)

test_native_code_stays if {
	denied(
		asked({"/request/where": "outside", "/request/runner": "native"}),
		"admit.job",
		"native code may not run outside; it must be one of: wasm",
	)
	asked({"/request/runner": "native"}).allow == true
}

test_no_code_does_not_go_out if {
	v := decide(json.remove(f.outside, ["request/runner"]), f.catalog, f.rules)
	denied(v, "admit.job", "no code may not run outside; it must be one of: wasm")
}

test_looks_and_uploads_are_local[algorithm] if {
	some algorithm in ["view", "upload"]
	look := json.remove(f.with_values(f.request, {"/request/algorithm": algorithm}), ["request/runner"])
	decide(look, f.catalog, f.rules).allow == true
	decide(f.with_values(look, {"/request/where": "local"}), f.catalog, f.rules).allow == true
	denied(
		decide(f.with_values(look, {"/request/where": "outside"}), f.catalog, f.rules),
		"admit.job",
		sprintf("jobs such as %s may not run outside; leave where out", [algorithm]),
	)
}

test_a_look_runs_no_code if {
	denied(
		asked({"/request/algorithm": "view"}),
		"admit.job",
		"wasm code may not run on the local cluster; it must be one of: ",
	)
}

test_more_executions_than_the_class_has if {
	denied(
		asked({"/request/copies": 10}),
		"admit.job",
		"10 executions are asked for; jobs such as features may have 9 at most",
	)
	asked({"/request/copies": 9}).limits.copies == 9
}

test_class_by_algorithm if {
	small := {"destinations": ["local"], "runners": {"local": ["wasm"]}, "price": 7, "budget": 9, "copies": 1}
	rules := f.with_values(f.rules, {"/jobs/algorithms/features": "small", "/jobs/classes/small": small})
	v := decide(f.request, f.catalog, rules)
	v.limits.price == 7
	v.limits.budget == 9
	decide(f.outside, f.catalog, rules).rules == {"admit.job"}
	both := f.with_values(rules, {"/jobs/classes/small/runners": {"local": ["wasm"], "outside": ["wasm"]}, "/jobs/classes/small/copies": 2})
	decide(f.outside, f.catalog, both).rules == {"admit.job"}
	decide(f.with_values(f.outside, {"/request/algorithm": "other"}), f.catalog, rules).allow == true
}

test_algorithm_without_a_class if {
	rules := json.remove(f.rules, ["jobs/algorithms/*"])
	denied(decide(f.request, f.catalog, rules), "admit.job", "policy has no class of jobs for the algorithm features")
	decide(f.request, f.catalog, f.with_values(f.rules, {"/jobs/algorithms/features": "ghost"})).rules == {"admit.job"}
	decide(json.remove(f.request, ["request/algorithm"]), f.catalog, f.rules).rules == {"admit.job"}
}

# The lowest of all that bound it.
test_price_and_budget[name] if {
	some name, paths in {
		"row": ["/classes/confidential/local/price", "/classes/confidential/local/budget"],
		"job": ["/jobs/classes/job/price", "/jobs/classes/job/budget"],
	}
	v := decide(
		f.with_values(f.request, {"/request/max_price": 50}), f.catalog,
		f.with_values(f.rules, {paths[0]: 30, paths[1]: 40}),
	)
	v.limits.price == 30
	v.limits.budget == 40
	w := decide(
		f.with_values(f.request, {"/request/max_price": 20}), f.catalog,
		f.with_values(f.rules, {paths[0]: 30, paths[1]: 90000000}),
	)
	w.limits.price == 20
	w.limits.budget == 20000000
}

earlier(job, time, destination) := {"job": job, "dataset": "cohort", "time": time, "destination": destination}

twice := f.with_values(f.rules, {
	"/classes/confidential/outside/max_releases": 2,
	"/classes/confidential/outside/releases_window_days": 30,
})

history(list) := decide(f.with_values(f.outside, {"/history": list}), f.catalog, twice)

test_released_often_enough if {
	denied(
		history([earlier("a", "2029-12-20T00:00:00Z", "outside"), earlier("b", "2030-01-01T00:00:00Z", "outside")]),
		"admit.history",
		"dataset cohort was released to outside 2 times in 30 days; 2 is the most, so ask for an exception or wait",
	)
}

test_releases_that_do_not_count[name] if {
	some name, other in {
		"none": [],
		"local": [earlier("b", "2030-01-01T00:00:00Z", "local")],
		"before the window": [earlier("b", "2029-12-03T03:04:05Z", "outside")],
		"this very job": [earlier("j1", "2030-01-01T00:00:00Z", "outside")],
		"the same job": [earlier("a", "2030-01-01T00:00:00Z", "outside")],
	}
	history(array.concat([earlier("a", "2029-12-20T00:00:00Z", "outside")], other)).allow == true
}

test_release_with_a_later_time_counts if {
	history([
		earlier("a", "2031-01-01T00:00:00Z", "outside"),
		earlier("b", "2029-12-03T03:04:06Z", "outside"),
	]).rules == {"admit.history"}
}

test_no_bound_on_releases if {
	many := [earlier(sprintf("a%d", [i]), "2030-01-01T00:00:00Z", "outside") | some i in numbers.range(1, 50)]
	decide(f.with_values(f.outside, {"/history": many}), f.catalog, f.rules).allow == true
}

test_window_missing_is_no if {
	rules := json.remove(twice, ["classes/confidential/outside/releases_window_days"])
	v := decide(f.with_values(f.outside, {"/history": [earlier("a", "2030-01-01T00:00:00Z", "outside")]}), f.catalog, rules)
	v.allow == true # none counts, so only the bound itself is asked
	w := decide(f.outside, f.catalog, json.remove(twice, ["classes/confidential/outside/max_releases"]))
	w.rules == {"admit.history"}
}

ward(values) := decide(f.with_values(f.outside, object.union({"/dataset": "ward"}, values)), f.catalog, f.rules)

test_safe_harbor if {
	v := ward({})
	v.allow == true
	object.keys(v.masks) == {column.name | some column in f.harbored; startswith(column.name, "ok_")}
	v.masks.ok_sex == {}
	v.masks.ok_age == {"cap": {"top": 90, "label": "90+"}}
	"admit.standard" in v.rules
}

test_safe_harbor_is_for_outside if {
	v := ward({"/request/where": "local"})
	v.allow == true
	v.masks.raw == {}
	v.masks.unsaid == {}
}

test_unknown_standard[where] if {
	some where in ["local", "outside"]
	denied(
		decide(
			f.with_values(f.request, {"/request/where": where}),
			f.with_values(f.catalog, {"/datasets/cohort/standard": "safe_habor"}),
			f.rules,
		),
		"admit.standard",
		"dataset cohort is held to the standard safe_habor, which policy has no table for",
	)
}

test_nothing_meets_the_standard if {
	denied(
		decide(f.outside, f.with_values(f.catalog, {"/datasets/cohort/standard": "safe_harbor"}), f.rules),
		"admit.columns",
		concat("", [
			"no column of dataset cohort may leave: each needs a mask that policy accepts for its role, ",
			"and safe_harbor for its identifier",
		]),
	)
}

# What the role's table refuses, a standard does not let through.
test_both_tables_must_accept if {
	catalog := f.with_values(f.catalog, {"/datasets/ward/columns": [
		{"name": "born", "role": "direct", "identifier": "date", "mask": {"verb": "date", "args": {"to": "year"}}},
		{"name": "sex", "role": "direct", "identifier": "none", "mask": {"verb": "keep"}},
		{"name": "test", "role": "insensitive", "identifier": "none"},
	]})
	object.keys(decide(f.with_values(f.outside, {"/dataset": "ward"}), catalog, f.rules).masks) == {"test"}
}

# What a table leaves raw is not treated, whatever the steward proposes.
test_raw_does_not_meet_the_standard if {
	v := decide(f.with_values(f.outside, {"/dataset": "ward"}), f.catalog, f.with_values(f.rules, {"/classes/internal/outside/columns": "inside"}))
	object.keys(v.masks) == {"ok_gone", "ok_sex", "ok_test", "raw"}
}

# A bound that says what no rule knows holds for nothing.
test_unknown_bound if {
	rules := f.with_values(f.rules, {"/standards/safe_harbor/date/verbs/date/to": {"not": ["month"]}})
	not decide(f.with_values(f.outside, {"/dataset": "ward"}), f.catalog, rules).masks.ok_born
}

rows := ["/classes/confidential/outside/min_l", "/classes/confidential/outside/max_t"]

leaves(rules, values) := verdict if {
	verdict := release.verdict with input as f.with_values(f.releasing, values)
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.with_values(f.rules, rules)
}

test_diversity[name] if {
	some name, ok in {"1": false, "2": false, "3": true}
	leaves({rows[0]: 3}, {"/facts/risk/diversity": to_number(name)}).allow == ok
}

test_diversity_says_numbers if {
	denied(
		leaves({rows[0]: 3}, {"/facts/risk/diversity": 2}),
		"release.diversity",
		"a sensitive column has only 2 different values in one class; confidential data may leave only from 3 up",
	)
}

test_diversity_not_measured[name] if {
	some name, values in {"absent": {}, "null": {"/facts/risk/diversity": null}, "text": {"/facts/risk/diversity": "9"}}
	denied(
		leaves({rows[0]: 2}, values),
		"release.diversity",
		"how diverse the sensitive columns are was not measured; confidential data may leave only from 2 different values up",
	)
}

test_closeness[t] if {
	some t, ok in {-1: false, 0: true, 0.2: true, 0.3: false}
	leaves({rows[1]: 0.2}, {"/facts/risk/closeness": t}).allow == ok
}

test_closeness_says_numbers if {
	denied(
		leaves({rows[1]: 0.2}, {"/facts/risk/closeness": 0.3}),
		"release.closeness",
		"a sensitive column of one class differs from the whole table by 0.3; confidential data may leave only up to 0.2",
	)
}

test_closeness_not_measured[name] if {
	some name, values in {"absent": {}, "null": {"/facts/risk/closeness": null}}
	denied(
		leaves({rows[1]: 0.2}, values),
		"release.closeness",
		"how close the classes are to the whole table was not measured; confidential data may leave only up to 0.2",
	)
}

test_not_asked_for if leaves({}, {}).allow == true

test_hole_is_no[field] if {
	some field in ["min_l", "max_t"]
	v := release.verdict with input as f.releasing
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as json.remove(f.rules, [concat("/", ["classes/confidential/outside", field])])
	v.allow == false
}

test_reviews_by_the_table if {
	decide(f.outside, f.catalog, f.with_values(f.rules, {"/classes/confidential/outside/reviews": 2})).limits.reviews == 2
}
