# METADATA
# title: What the tests of both doors start from
# description: |
#   A site of its own, table included: the tests say what rules make of a table,
#   so whoever changes data.json need not touch them. What must hold of the
#   table that is in force is in table_test.rego.
package sallyport.fixtures_test

catalog := {"datasets": {
	"cohort": {
		"id": "cohort",
		"owner": "steward",
		"sensitivity": "confidential",
		"residency": ["de", "fr"],
		"purposes": ["research", "teaching"],
		"subject": "patient",
		"columns": columns,
	},
	"genomes": {
		"id": "genomes",
		"owner": "steward",
		"sensitivity": "restricted",
		"purposes": ["research"],
		"columns": columns,
	},
	"staff": {
		"id": "staff",
		"owner": "steward",
		"sensitivity": "internal",
		"purposes": ["research"],
		"columns": columns,
	},
	"census": {
		"id": "census",
		"owner": "steward",
		"sensitivity": "public",
		"residency": null,
		"purposes": ["research"],
		"columns": columns,
	},
	"names": {
		"id": "names",
		"owner": "steward",
		"sensitivity": "confidential",
		"purposes": ["research"],
		"columns": [
			{"name": "name", "role": "direct"},
			{"name": "born", "role": "quasi", "mask": null},
			{"name": "card", "role": "direct", "mask": {"verb": "drop"}},
		],
	},
	"ward": {
		"id": "ward",
		"owner": "steward",
		"sensitivity": "internal",
		"purposes": ["research"],
		"standard": "safe_harbor",
		"columns": harbored,
	},
	"donors": {
		"id": "donors",
		"owner": "steward",
		"sensitivity": "internal",
		"purposes": ["research"],
		"consent": true,
		"columns": columns,
	},
	"odd": {
		"id": "odd",
		"owner": "steward",
		"sensitivity": "secret",
		"purposes": ["research"],
		"columns": columns,
	},
}}

columns := [
	{"name": "patient", "role": "direct", "mask": {"verb": "pseudonym", "args": {"length": 16}}},
	{"name": "name", "role": "direct"},
	{"name": "phone", "role": "direct", "mask": {"verb": "prefix", "args": {"length": 3}}},
	{"name": "notes", "role": "direct", "mask": {"verb": "drop"}},
	{"name": "age", "role": "quasi", "mask": {"verb": "generalize", "args": {"width": 10}}},
	{"name": "town", "role": "quasi"},
	{"name": "visit", "role": "quasi", "mask": {"verb": ""}},
	{"name": "diagnosis", "role": "sensitive"},
	{"name": "income", "role": "sensitive", "mask": {"verb": "cap", "args": {"top": 100000}}},
	{"name": "genome", "role": "sensitive", "mask": {"verb": "scramble"}},
	{"name": "ward", "role": "insensitive", "mask": {"verb": ""}},
	{"name": "mystery", "role": "unheard-of", "mask": {"verb": "drop"}},
]

# Columns of a dataset that is held to HIPAA Safe Harbor: those whose names begin
# with ok may leave.
harbored := [
	{"name": "ok_name", "role": "direct", "identifier": "name", "mask": {"verb": "replace", "args": {"value": "x"}}},
	{"name": "ok_born", "role": "quasi", "identifier": "date", "mask": {"verb": "date", "args": {"to": "year"}}},
	{"name": "month", "role": "quasi", "identifier": "date", "mask": {"verb": "date", "args": {"to": "month"}}},
	{"name": "moved", "role": "quasi", "identifier": "date", "mask": {"verb": "shift_date", "args": {"days": 30}}},
	{"name": "ok_age", "role": "quasi", "identifier": "age", "mask": {"verb": "cap", "args": {"top": 90, "label": "90+"}}},
	{"name": "old", "role": "quasi", "identifier": "age", "mask": {"verb": "cap", "args": {"top": 95}}},
	{"name": "text", "role": "quasi", "identifier": "age", "mask": {"verb": "cap", "args": {"top": "90"}}},
	{"name": "low", "role": "quasi", "identifier": "age", "mask": {"verb": "cap", "args": {"bottom": 18}}},
	{"name": "null", "role": "quasi", "identifier": "age", "mask": {"verb": "cap", "args": {"top": null}}},
	{"name": "tens", "role": "quasi", "identifier": "age", "mask": {"verb": "generalize", "args": {"width": 10}}},
	{
		"name": "ok_zip", "role": "quasi", "identifier": "geographic",
		"mask": {"verb": "hierarchy", "args": {"file": "zip3.csv", "level": 1}},
	},
	{
		"name": "zip", "role": "quasi", "identifier": "geographic",
		"mask": {"verb": "hierarchy", "args": {"file": "zip3.csv", "level": 0}},
	},
	{
		"name": "ziptext", "role": "quasi", "identifier": "geographic",
		"mask": {"verb": "hierarchy", "args": {"file": "zip3.csv", "level": "1"}},
	},
	{"name": "ok_zip2020", "role": "quasi", "identifier": "geographic", "mask": {"verb": "zip3", "args": {"vintage": 2020}}},
	{"name": "ok_ziptext", "role": "quasi", "identifier": "geographic", "mask": {"verb": "zip3", "args": {"vintage": "2020"}}},
	{"name": "zip2000", "role": "quasi", "identifier": "geographic", "mask": {"verb": "zip3", "args": {"vintage": 2000}}},
	{"name": "zip2010", "role": "quasi", "identifier": "geographic", "mask": {"verb": "zip3", "args": {"vintage": "2010"}}},
	{"name": "zipnever", "role": "quasi", "identifier": "geographic", "mask": {"verb": "zip3"}},
	{"name": "ok_age90", "role": "quasi", "identifier": "age", "mask": {"verb": "age90"}},
	{
		"name": "ok_ageclass", "role": "quasi", "identifier": "age",
		"mask": {"verb": "hierarchy", "args": {"file": "age90.csv", "level": 1}},
	},
	{
		"name": "ageraw", "role": "quasi", "identifier": "age",
		"mask": {"verb": "hierarchy", "args": {"file": "age90.csv", "level": 0}},
	},
	{
		"name": "agefile", "role": "quasi", "identifier": "age",
		"mask": {"verb": "hierarchy", "args": {"file": "zip3.csv", "level": 1}},
	},
	{"name": "agemean", "role": "quasi", "identifier": "age", "mask": {"verb": "microaggregate", "args": {"k": 5}}},
	{"name": "cipher", "role": "direct", "identifier": "record", "mask": {"verb": "encrypt"}},
	{"name": "digits", "role": "direct", "identifier": "record", "mask": {"verb": "ff1", "args": {"alphabet": "digits"}}},
	{"name": "zip3", "role": "quasi", "identifier": "geographic", "mask": {"verb": "prefix", "args": {"length": 3}}},
	{"name": "mrn", "role": "direct", "identifier": "record", "mask": {"verb": "pseudonym"}},
	{"name": "ok_gone", "role": "direct", "identifier": "ssn", "mask": {"verb": "drop"}},
	{"name": "ok_sex", "role": "quasi", "identifier": "none", "mask": {"verb": "keep"}},
	{"name": "ok_test", "role": "sensitive", "identifier": "none"},
	{"name": "said", "role": "sensitive", "identifier": "other"},
	{"name": "unsaid", "role": "insensitive"},
	{"name": "strange", "role": "insensitive", "identifier": "aura", "mask": {"verb": "drop"}},
	{"name": "raw", "role": "quasi", "identifier": "none"},
]

register := {
	"grants": {"genomes": {
		"lungs": {
			"purposes": ["research"], "since": "2029-06-01T00:00:00Z", "until": "2030-06-01T00:00:00Z",
			"by": "steward", "reason": "study 7",
		},
		"open": {
			"purposes": ["research"], "people": ["ada"], "since": "2029-06-01T00:00:00Z", "until": "2030-06-01T00:00:00Z",
			"by": "steward", "reason": "study 8",
		},
	}},
	"consents": {"donors": {"research": {"basis": "form 3, archive", "since": "2029-01-01T00:00:00Z", "by": "steward"}}},
	"exceptions": {},
}

# An exception that holds for the request.
exception := {
	"checks": ["release.class"], "dataset": "cohort", "project": "lungs",
	"since": "2030-01-01T00:00:00Z", "until": "2030-02-01T00:00:00Z",
	"asked_by": "bob", "approved_by": "eve", "reason": "rare disease",
}

site := {
	"people": {"ada": {"roles": ["researcher"], "projects": ["lungs"]}},
	"projects": {
		"lungs": {"members": ["ada"], "purposes": ["research"], "budget": 20000000},
		"open": {"members": ["ada", "guest"], "purposes": []},
		"bare": {"members": null, "purposes": null},
		"east": {"members": ["ada"], "rows": {"cohort": {"ward": ["e1", "e2"], "town": ["x"]}}},
	},
}

request := {
	"version": 1,
	"time": "2030-01-02T03:04:05Z",
	"job": "j1",
	"subject": {"id": "ada", "roles": ["researcher"], "projects": ["lungs"], "credential": "test"},
	"project": "lungs",
	"purpose": "research",
	"dataset": "cohort",
	"request": {"algorithm": "features", "runner": "wasm", "module": "sha256:00"},
	"history": [],
}

outside := json.patch(request, [{"op": "add", "path": "/request/where", "value": "outside"}])

releasing := object.union(outside, {
	"destination": "outside",
	"admitted": {
		"key_ttl": 1800, "price": 1, "budget": 1, "copies": 2, "regions": [],
		"min_class": 10, "max_unique": 0, "reviews": 0,
	},
	"facts": {
		"risk": {
			"records": 4000, "classes": 20, "smallest_class": 12, "unique_share": 0,
			"highest": 0.1, "average": 0.005, "exact": true, "quasi": ["age"],
		},
		"source": "sha256:01",
		"plan": "sha256:02",
		"columns": ["patient", "age", "diagnosis", "income", "ward"],
		"residual": {},
		"rows": [],
		"undeclared": [],
		"suppressed": 0,
		"cleared": ["diagnosis", "ward"],
		"actions": {"patient": "pseudonym", "age": "generalize", "diagnosis": "keep", "income": "cap", "ward": "keep"},
	},
})

# The input with some values put in other places.
with_values(doc, values) := json.patch(doc, [{"op": "add", "path": path, "value": value} | some path, value in values])

rules := {
	"two_person": ["policy.publish", "exception.grant", "audit.erase"],
	"roles": {
		"researcher": {"may": ["job:run"]},
		"steward": {"may": ["dataset:edit", "register:edit"]},
		"officer": {"may": ["audit:read", "policy:approve", "exception:approve", "result:review"]},
		"admin": {"may": ["policy:edit"]},
		"approver": {"may": ["policy:approve", "exception:approve"]},
		"reviewer": {"may": ["result:review"]},
	},
	"classes": {
		"public": {
			"default": "outside", "grant": false, "jurisdictions": ["*"],
			"local": {
				"may": true, "columns": "inside", "key_ttl": 14400, "price": 5000000, "budget": 100000000, "copies": 1,
				"min_records": 0, "min_class": 0, "max_unique": 1, "min_l": 0, "max_t": 1, "min_combined": 0, "max_undeclared": 1,
				"max_releases": 0, "releases_window_days": 365, "reviews": 0, "residual": {"*": "tolerate"},
			},
			"outside": {
				"may": true, "columns": "leaving", "key_ttl": 3600, "price": 5000000, "budget": 100000000, "copies": 2,
				"min_records": 1, "min_class": 1, "max_unique": 1, "min_l": 0, "max_t": 1, "min_combined": 0, "max_undeclared": 1,
				"max_releases": 0, "releases_window_days": 365, "reviews": 0, "residual": {"*": "tolerate"},
			},
		},
		"internal": {
			"default": "outside", "grant": false, "jurisdictions": ["*"],
			"local": {
				"may": true, "columns": "inside", "key_ttl": 14400, "price": 5000000, "budget": 100000000, "copies": 1,
				"min_records": 0, "min_class": 0, "max_unique": 1, "min_l": 0, "max_t": 1, "min_combined": 0, "max_undeclared": 1,
				"max_releases": 0, "releases_window_days": 365, "reviews": 0, "residual": {"*": "tolerate"},
			},
			"outside": {
				"may": true, "columns": "leaving", "key_ttl": 3600, "price": 5000000, "budget": 50000000, "copies": 2,
				"min_records": 1, "min_class": 5, "max_unique": 0, "min_l": 0, "max_t": 1, "min_combined": 5, "max_undeclared": 0.5,
				"max_releases": 0, "releases_window_days": 365, "reviews": 0, "residual": {"*": "deny"},
			},
		},
		"confidential": {
			"default": "local", "grant": false, "jurisdictions": ["eea", "adequate"],
			"local": {
				"may": true, "columns": "inside", "key_ttl": 14400, "price": 5000000, "budget": 100000000, "copies": 1,
				"min_records": 0, "min_class": 0, "max_unique": 1, "min_l": 0, "max_t": 1, "min_combined": 0, "max_undeclared": 1,
				"max_releases": 0, "releases_window_days": 365, "reviews": 0, "residual": {"*": "tolerate"},
			},
			"outside": {
				"may": true, "columns": "leaving", "key_ttl": 1800, "price": 5000000, "budget": 50000000, "copies": 2,
				"min_records": 1, "min_class": 10, "max_unique": 0, "min_l": 0, "max_t": 1, "min_combined": 10, "max_undeclared": 0.5,
				"max_releases": 0, "releases_window_days": 365, "reviews": 0, "residual": {"*": "deny"},
			},
		},
		"restricted": {
			"default": "local", "grant": true, "jurisdictions": [],
			"local": {
				"may": true, "columns": "inside", "key_ttl": 14400, "price": 5000000, "budget": 100000000, "copies": 1,
				"min_records": 0, "min_class": 0, "max_unique": 1, "min_l": 0, "max_t": 1, "min_combined": 0, "max_undeclared": 1,
				"max_releases": 0, "releases_window_days": 365, "reviews": 0, "residual": {"*": "tolerate"},
			},
			"outside": {"may": false},
		},
	},
	"columns": {
		"leaving": {
			"direct": {
				"drop": "apply", "pseudonym": "apply", "ff1": "apply", "encrypt": "apply", "mask": "apply", "replace": "apply",
				"shift_date": "apply",
			},
			"quasi": {
				"keep": "keep", "generalize": "apply", "date": "apply", "prefix": "apply", "shift_date": "apply", "cap": "apply",
				"hierarchy": "apply", "drop": "apply", "pseudonym": "apply", "mask": "apply", "replace": "apply",
				"ff1": "apply", "encrypt": "apply", "round": "apply", "microaggregate": "apply", "zip3": "apply", "age90": "apply",
			},
			"sensitive": {
				"": "keep", "keep": "keep", "generalize": "apply", "date": "apply", "prefix": "apply", "shift_date": "apply",
				"cap": "apply", "hierarchy": "apply", "drop": "apply", "pseudonym": "apply", "mask": "apply", "replace": "apply",
				"ff1": "apply", "encrypt": "apply", "round": "apply", "microaggregate": "apply", "zip3": "apply", "age90": "apply",
			},
			"insensitive": {
				"": "keep", "keep": "keep", "generalize": "apply", "date": "apply", "prefix": "apply", "shift_date": "apply",
				"cap": "apply", "hierarchy": "apply", "drop": "apply", "pseudonym": "apply", "mask": "apply", "replace": "apply",
				"ff1": "apply", "encrypt": "apply", "round": "apply", "microaggregate": "apply", "zip3": "apply", "age90": "apply",
			},
		},
		"inside": {
			"direct": {"drop": "apply", "pseudonym": "apply", "ff1": "apply", "encrypt": "apply"},
			"quasi": {"*": "keep"},
			"sensitive": {"*": "keep"},
			"insensitive": {"*": "keep"},
		},
	},
	"standards": {
		"safe_harbor": {
			"name": {"verbs": {"drop": {}, "replace": {}}},
			"geographic": {"verbs": {
				"drop": {}, "replace": {}, "zip3": {"vintage": {"in": [2020, "2020"]}},
				"hierarchy": {"file": {"in": ["zip3.csv"]}, "level": {"min": 1}},
			}},
			"date": {"verbs": {"drop": {}, "replace": {}, "date": {"to": {"in": ["year"]}}}},
			"age": {"verbs": {
				"drop": {}, "replace": {}, "age90": {}, "cap": {"top": {"max": 90}},
				"hierarchy": {"file": {"in": ["age90.csv"]}, "level": {"min": 1}},
			}},
			"telephone": {"verbs": {"drop": {}, "replace": {}}},
			"fax": {"verbs": {"drop": {}, "replace": {}}},
			"email": {"verbs": {"drop": {}, "replace": {}}},
			"ssn": {"verbs": {"drop": {}, "replace": {}}},
			"record": {"verbs": {"drop": {}, "replace": {}}},
			"beneficiary": {"verbs": {"drop": {}, "replace": {}}},
			"account": {"verbs": {"drop": {}, "replace": {}}},
			"license": {"verbs": {"drop": {}, "replace": {}}},
			"vehicle": {"verbs": {"drop": {}, "replace": {}}},
			"device": {"verbs": {"drop": {}, "replace": {}}},
			"url": {"verbs": {"drop": {}, "replace": {}}},
			"ip": {"verbs": {"drop": {}, "replace": {}}},
			"biometric": {"verbs": {"drop": {}, "replace": {}}},
			"photo": {"verbs": {"drop": {}, "replace": {}}},
			"other": {"verbs": {"drop": {}, "replace": {}}},
			"none": {"any": true},
		},
	},
	"jurisdictions": {
		"eu": [
			"eu", "eu-central", "eu-east", "eu-north", "eu-south", "eu-west", "at", "be", "bg", "cy", "cz",
			"de", "dk", "ee", "es", "fi", "fr", "gr", "hr", "hu", "ie", "it", "lt", "lu", "lv", "mt", "nl",
			"pl", "pt", "ro", "se", "si", "sk",
		],
		"eea": [
			"eea", "eu", "eu-central", "eu-east", "eu-north", "eu-south", "eu-west", "at", "be", "bg", "cy",
			"cz", "de", "dk", "ee", "es", "fi", "fr", "gr", "hr", "hu", "ie", "it", "lt", "lu", "lv", "mt",
			"nl", "pl", "pt", "ro", "se", "si", "sk", "is", "li", "no",
		],
		"adequate": ["adequate", "ar", "ch", "gb", "nz", "uy"],
	},
	"jobs": {
		"algorithms": {"*": "job", "view": "look", "upload": "look"},
		"classes": {
			"job": {
				"destinations": ["local", "outside"], "runners": {"local": ["", "wasm", "native"], "outside": ["wasm"]},
				"price": 5000000, "budget": 100000000, "copies": 9,
			},
			"look": {
				"destinations": ["local"], "runners": {"local": [""]},
				"price": 5000000, "budget": 100000000, "copies": 1,
			},
		},
	},
	"exceptions": {
		"waivable": ["admit.project_purpose", "admit.grant", "admit.history", "release.class", "release.combined", "release.undeclared"],
		"min_class": 3,
	},
}
