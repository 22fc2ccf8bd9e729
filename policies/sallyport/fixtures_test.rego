# METADATA
# title: What the tests of both doors start from
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
		"cleared": ["diagnosis", "ward"],
		"actions": {"patient": "pseudonym", "age": "generalize", "diagnosis": "keep", "income": "cap", "ward": "keep"},
	},
})

# The input with some values put in other places.
with_values(doc, values) := json.patch(doc, [{"op": "add", "path": path, "value": value} | some path, value in values])
