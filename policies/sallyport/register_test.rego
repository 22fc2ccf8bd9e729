# METADATA
# title: Tests of grants, consents and exceptions at both doors
package sallyport.register_test

import data.sallyport.admit
import data.sallyport.fixtures_test as f
import data.sallyport.lib
import data.sallyport.release

# The request with some values changed, over a register.
over(register, values) := verdict if {
	verdict := admit.verdict with input as f.with_values(f.request, values)
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.rules
		with data.register as register
}

released(register, values) := verdict if {
	verdict := release.verdict with input as f.with_values(f.releasing, values)
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.rules
		with data.register as register
}

denied(verdict, rule, reason) if {
	verdict.allow == false
	verdict.rules == {rule}
	verdict.reasons == {reason}
}

genomes := {"/dataset": "genomes"}

granted(values) := over(
	f.with_values(f.register, {concat("", ["/grants/genomes/lungs/", field]): value |
		some field, value in values
	}),
	genomes,
)

test_restricted_with_a_grant if {
	v := over(f.register, genomes)
	v.allow == true
	"admit.grant" in v.rules
}

test_no_grant[name] if {
	some name, register in {
		"no register": {},
		"no grants": {"grants": {}, "consents": {}, "exceptions": {}},
		"of another dataset": {"grants": {"cohort": f.register.grants.genomes}},
		"of another project": {"grants": {"genomes": {"hearts": f.register.grants.genomes.lungs}}},
	}
	denied(over(register, genomes), "admit.grant", "project lungs has no grant for dataset genomes; ask its owner steward for one")
}

test_only_where_the_table_asks if {
	over({}, {}).allow == true
	v := admit.verdict with input as f.request
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as f.with_values(f.rules, {"/classes/confidential/grant": true})
	v.rules == {"admit.grant"}
}

test_grant_flag_missing_is_no if {
	v := admit.verdict with input as f.request
		with data.catalog as f.catalog
		with data.site as f.site
		with data.rules as json.remove(f.rules, ["classes/confidential/grant"])
	v.allow == false
}

test_grant_flag_missing_is_no_even_with_a_grant if {
	v := admit.verdict with input as f.with_values(f.request, genomes)
		with data.catalog as f.catalog
		with data.site as f.site
		with data.register as f.register
		with data.rules as json.remove(f.rules, ["classes/restricted/grant"])
	v.rules == {"admit.grant"}
}

test_grant_expired if {
	denied(
		granted({"until": "2030-01-01T00:00:00Z"}),
		"admit.grant",
		"the grant of project lungs for dataset genomes expired 2030-01-01; ask its owner steward to renew it",
	)
	granted({"until": "2030-01-02T03:04:05Z"}).allow == false
	granted({"until": "2030-01-02T03:04:05.000000001Z"}).allow == true
}

test_grant_not_begun if {
	denied(
		granted({"since": "2030-03-01T00:00:00Z"}),
		"admit.grant",
		"the grant of project lungs for dataset genomes begins 2030-03-01; submit again then",
	)
	granted({"since": "2030-01-02T03:04:05Z"}).allow == true
}

# The same moment in another zone.
test_grant_in_another_zone if {
	granted({"until": "2030-01-02T04:00:00+01:00"}).allow == false
	granted({"until": "2030-01-02T04:05:00+01:00"}).allow == true
}

test_grant_for_another_purpose if {
	denied(
		granted({"purposes": ["teaching"]}),
		"admit.grant",
		"the grant of project lungs for dataset genomes is for teaching, not for research; ask its owner steward to widen it",
	)
}

test_grant_for_other_people if {
	denied(
		granted({"people": ["bob"]}),
		"admit.grant",
		"the grant of project lungs for dataset genomes is not for ada; ask its owner steward to widen it",
	)
	granted({"people": ["bob", "ada"]}).allow == true
}

# What is no list of people is not read as every member.
test_ill_formed_grant[name] if {
	some name, grant in {
		"no people": {"people": []},
		"people null": {"people": null},
		"people text": {"people": "ada"},
		"purposes null": {"purposes": null},
		"purposes text": {"purposes": "research"},
	}
	granted(grant).rules == {"admit.grant"}
}

test_grant_without_times[field] if {
	some field in ["since", "until", "purposes"]
	over(json.remove(f.register, [concat("", ["grants/genomes/lungs/", field])]), genomes).rules == {"admit.grant"}
}

# A grant withdrawn while the job waited is gone at door 2.
test_grant_counts_at_door_2 if {
	inside := {
		"/dataset": "genomes", "/request/where": "local", "/destination": "local",
		"/facts/columns": ["patient"], "/facts/cleared": [], "/facts/actions": {"patient": "pseudonym"},
	}
	released({}, inside).reasons == {concat("", [
		"the job would not be admitted any more: project lungs has no grant for dataset genomes; ",
		"ask its owner steward for one",
	])}
}

donors := {"/dataset": "donors", "/request/where": "local"}

consented(values) := over(
	f.with_values(f.register, {concat("", ["/consents/donors/research/", field]): value |
		some field, value in values
	}),
	donors,
)

test_consent_on_record if {
	v := over(f.register, donors)
	v.allow == true
	"admit.consent" in v.rules
	consented({"until": "2031-01-01T00:00:00Z"}).allow == true
}

test_no_consent[name] if {
	some name, register in {
		"no register": {},
		"none": {"consents": {}},
		"to another purpose": {"consents": {"donors": {"teaching": f.register.consents.donors.research}}},
		"for another dataset": {"consents": {"cohort": f.register.consents.donors}},
	}
	denied(
		over(register, donors), "admit.consent",
		"dataset donors may be used for research only with consent, and none is on record; ask its owner steward",
	)
}

test_consent_withdrawn if {
	denied(consented({"withdrawn": true}), "admit.consent", "the consent to use dataset donors for research was withdrawn")
	consented({"withdrawn": false}).allow == true
	consented({"withdrawn": null}).rules == {"admit.consent"}
	consented({"withdrawn": "no"}).rules == {"admit.consent"}
}

test_consent_expired if {
	denied(
		consented({"until": "2030-01-01T00:00:00Z"}), "admit.consent",
		"the consent to use dataset donors for research expired 2030-01-01; ask its owner steward",
	)
}

test_consent_not_begun if {
	denied(
		consented({"since": "2031-01-01T00:00:00Z"}), "admit.consent",
		"the consent to use dataset donors for research counts from 2031-01-01 on",
	)
	over(json.remove(f.register, ["consents/donors/research/since"]), donors).rules == {"admit.consent"}
}

test_consent_only_where_the_dataset_asks if {
	over({}, {}).allow == true
	v := admit.verdict with input as f.request
		with data.catalog as f.with_values(f.catalog, {"/datasets/cohort/consent": "yes"})
		with data.site as f.site
		with data.rules as f.rules
	v.rules == {"admit.consent"}
}

# A register with one exception, changed.
excepted(values) := {"grants": {}, "consents": {}, "exceptions": {"e7": f.with_values(f.exception, values)}}

waiving(check) := excepted({"/checks": [check]})

test_exception_waives[check] if {
	some check, values in {
		"admit.project_purpose": {"/purpose": "teaching"},
		"admit.grant": {"/dataset": "genomes"},
	}
	register := f.with_values(waiving(check), {"/exceptions/e7/dataset": object.get(values, "/dataset", "cohort")})
	v := over(register, values)
	v.allow == true
	{check, "exception.e7"} - v.rules == set()
	over({}, values).rules == {check}
}

test_exception_that_is_not_needed_is_not_named if {
	v := over(waiving("admit.project_purpose"), {})
	v.allow == true
	not "exception.e7" in v.rules
}

# What each exception lacks, so that it waives nothing.
test_exception_does_not_hold[name] if {
	some name, values in {
		"other check": {"/checks": ["admit.grant"]},
		"no checks": {"/checks": []},
		"checks null": {"/checks": null},
		"other dataset": {"/dataset": "staff"},
		"every dataset": {"/dataset": "*"},
		"other project": {"/project": "open"},
		"other purpose": {"/purpose": "research"},
		"purpose null": {"/purpose": null},
		"ended": {"/until": "2030-01-02T03:04:05Z"},
		"not begun": {"/since": "2030-01-03T00:00:00Z"},
		"approved by who asked": {"/asked_by": "eve"},
		"approved by nobody": {"/approved_by": ""},
		"approved by null": {"/approved_by": null},
		"approved by a list": {"/approved_by": ["eve"]},
		"asked by nobody": {"/asked_by": ""},
		"approved by who uses it": {"/approved_by": "ada"},
	}
	register := excepted(object.union({"/checks": ["admit.project_purpose"], "/purpose": "teaching"}, values))
	over(register, {"/purpose": "teaching"}).rules == {"admit.project_purpose"}
}

test_exception_lacks_a_field[field] if {
	some field in ["checks", "dataset", "project", "since", "until", "asked_by", "approved_by"]
	register := json.remove(waiving("admit.project_purpose"), [concat("", ["exceptions/e7/", field])])
	over(register, {"/purpose": "teaching"}).rules == {"admit.project_purpose"}
}

test_exception_holds if {
	over(excepted({"/checks": ["admit.project_purpose"], "/purpose": "teaching"}), {"/purpose": "teaching"}).allow == true
}

test_asker_may_use_it if {
	over(excepted({"/checks": ["admit.project_purpose"], "/asked_by": "ada"}), {"/purpose": "teaching"}).allow == true
}

test_not_every_check_can_be_waived[check] if {
	some check, values in {
		"admit.role": {"/subject/roles": []},
		"admit.purpose": {"/project": "open", "/purpose": "marketing"},
		"admit.member": {"/subject/id": "mallory", "/subject/projects": []},
	}
	register := f.with_values(waiving(check), {"/exceptions/e7/project": object.get(values, "/project", "lungs")})
	over(register, values).rules == {check}
}

outside := {"/request/where": "outside"}

test_exception_lowers_the_smallest_class if {
	v := over(excepted({}), outside)
	v.limits.min_class == 3
	"exception.e7" in v.rules
	w := over(excepted({"/until": "2030-01-01T12:00:00Z"}), outside)
	w.limits.min_class == 10
	not "exception.e7" in w.rules
}

test_exception_never_raises_the_smallest_class if {
	v := over(excepted({}), {})
	v.limits.min_class == 0
	not "exception.e7" in v.rules
}

test_exception_without_a_floor_is_no if {
	v := admit.verdict with input as f.outside
		with data.catalog as f.catalog
		with data.site as f.site
		with data.register as excepted({})
		with data.rules as json.remove(f.rules, ["exceptions/min_class"])
	v.limits.min_class == 10
}

test_small_class_by_exception[k] if {
	some k, ok in {2: false, 3: true, 9: true, 12: true}
	v := released(excepted({}), {"/admitted/min_class": 3, "/facts/risk/smallest_class": k})
	v.allow == ok
}

test_small_class_names_its_exception if {
	v := released(excepted({}), {"/admitted/min_class": 3, "/facts/risk/smallest_class": 4})
	{"release.class", "exception.e7"} - v.rules == set()
	w := released(excepted({}), {"/admitted/min_class": 3})
	not "exception.e7" in w.rules
}

test_exception_ended_while_the_job_waited if {
	denied(
		released(excepted({"/until": "2030-01-02T00:00:00Z"}), {"/admitted/min_class": 3, "/facts/risk/smallest_class": 4}),
		"release.class",
		"smallest equivalence class is 4 records; confidential data may leave only from 10 up",
	)
}

test_exception_granted_after_admission if {
	released(excepted({}), {"/facts/risk/smallest_class": 4}).rules == {"release.class"}
}

test_unique_is_not_waivable_by_default if {
	v := released(waiving("release.unique"), {"/facts/risk/unique_share": 0.01})
	v.rules == {"release.unique"}
	w := release.verdict with input as f.with_values(f.releasing, {"/facts/risk/unique_share": 0.01})
		with data.catalog as f.catalog
		with data.site as f.site
		with data.register as waiving("release.unique")
		with data.rules as f.with_values(f.rules, {"/exceptions/waivable": ["release.unique"]})
	w.allow == true
	{"release.unique", "exception.e7"} - w.rules == set()
}

test_label if lib.label("e7") == "exception.e7"

# What may not go there at all needs no grant to be told so.
test_destination_before_grant if {
	over({}, {"/dataset": "genomes", "/request/where": "outside"}).rules == {"admit.destination"}
}
