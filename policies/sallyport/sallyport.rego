# METADATA
# title: What rules below are checked against
# description: |
#   A field of the input, of the data or of what lib looks up that no schema has
#   is an error when the bundle is loaded, and not undefined when it is asked.
# scope: subpackages
# schemas:
#   - input: schema.v1.releasing
#   - data.catalog: schema.v1.catalog
#   - data.site: schema.v1.site
#   - data.register: schema.v1.register
#   - data.rules: schema.v1.rules
#   - data.sallyport.lib.dataset: schema.v1.dataset
#   - data.sallyport.lib.project: schema.v1.project
#   - data.sallyport.lib.person: schema.v1.person
#   - data.sallyport.lib.class: schema.v1.class
#   - data.sallyport.lib.grant: schema.v1.grant
#   - data.sallyport.lib.consent: schema.v1.consent
#   - data.sallyport.admit.row: schema.v1.row
#   - data.sallyport.admit.table: schema.v1.columns
#   - data.sallyport.admit.job: schema.v1.job
#   - data.sallyport.release.row: schema.v1.row
package sallyport
