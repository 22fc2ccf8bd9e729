# METADATA
# title: Tests of the acts that need two people
package sallyport.approval_test

import data.sallyport.approval

test_listed if approval.two_person == {"key.destroy"} with data.rules.two_person as ["key.destroy"]

test_none if approval.two_person == set() with data.rules.two_person as []

test_no_table if approval.two_person == {"*"} with data.rules as {}
