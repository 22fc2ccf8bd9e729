# METADATA
# title: Tests of the acts that need two people
package sallyport.approval_test

import data.sallyport.approval
import data.sallyport.fixtures_test as f

test_listed if approval.two_person == {"key.destroy"} with data.rules as {"two_person": ["key.destroy"]}

test_none if approval.two_person == set() with data.rules as {"two_person": []}

test_no_table if approval.two_person == {"*"} with data.rules as {}

site := {"people": {"ada": {"roles": ["steward"], "projects": []}}}

may(id, roles) := acts if {
	acts := approval.may with input as {"subject": {"id": id, "roles": roles}} with data.site as site with data.rules as f.rules
}

test_may_by_role[role] if {
	some role, acts in {
		"researcher": {"job:run"},
		"steward": {"dataset:edit", "register:edit"},
		"officer": {"audit:read", "policy:approve", "exception:approve", "result:review"},
		"admin": {"policy:edit"},
		"approver": {"policy:approve", "exception:approve"},
		"reviewer": {"result:review"},
		"king": set(),
	}
	may("guest", [role]) == acts
}

test_may_all_roles_together if may("guest", ["researcher", "reviewer"]) == {"job:run", "result:review"}

# A role that the site withdrew counts no longer, and none is given by the site alone.
test_may_what_the_site_leaves if {
	may("ada", ["steward", "officer"]) == {"dataset:edit", "register:edit"}
	may("ada", []) == set()
}

test_nobody_may_nothing if {
	may("", ["admin"]) == set()
	approval.may == set() with input as {"subject": {"roles": ["admin"]}} with data.rules as f.rules
	approval.may == set() with input as {} with data.rules as f.rules
}
