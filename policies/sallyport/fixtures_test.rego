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
	"request": {"algorithm": "features", "module": "sha256:00"},
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
