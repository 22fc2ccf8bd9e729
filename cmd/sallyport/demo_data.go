package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"sallyport"
)

// The demo's tables are generated here, from a seed. Nobody in them exists.
const demoSeed = 20260301

const demoPatients = 6000

// writePatients writes a table that a ward might have: two direct identifiers,
// four quasi-identifiers, and measurements that hang together.
func writePatients(w io.Writer) error {
	r := rand.New(rand.NewPCG(demoSeed, 1))
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "mrn,contact,age,sex,zip,admitted,diagnosis,sbp,hba1c,ldl,readmitted")
	diagnoses := []string{"I10", "E11", "I25", "J44", "N18"} // ICD-10: hypertension, type 2 diabetes, chronic ischaemic heart disease, COPD, chronic kidney disease
	regions := []string{"10", "20", "80"}
	for i := range demoPatients {
		age := 20 + int(60*math.Pow(r.Float64(), 0.7))
		sex := "F"
		if r.IntN(2) == 0 {
			sex = "M"
		}
		dx := diagnoses[min(len(diagnoses)-1, int(math.Abs(r.NormFloat64())*1.6))]
		sbp := 105 + 0.35*float64(age) + 12*r.NormFloat64()
		hba1c := 5.3 + 0.006*float64(age) + 0.3*math.Abs(r.NormFloat64())
		if dx == "E11" {
			hba1c += 1.4
		}
		if dx == "I10" {
			sbp += 14
		}
		ldl := 105 + 25*r.NormFloat64()
		risk := 1 / (1 + math.Exp(4-0.03*float64(age)-0.25*(hba1c-5.5)))
		readmitted := "no"
		if r.Float64() < risk {
			readmitted = "yes"
		}
		fmt.Fprintf(b, "M%06d,m%06d@ward.example,%d,%s,%s%03d,%d-%02d-%02d,%s,%.0f,%.1f,%.0f,%s\n",
			i+1, i+1, age, sex, regions[r.IntN(len(regions))], r.IntN(1000),
			2024+r.IntN(2), 1+r.IntN(12), 1+r.IntN(28), dx, sbp, hba1c, ldl, readmitted)
	}
	return b.Flush()
}

// writeGenotypes writes a table whose every row names its person, whatever is
// masked: policy keeps it on the lab's own machines.
func writeGenotypes(w io.Writer) error {
	r := rand.New(rand.NewPCG(demoSeed, 2))
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "mrn,panel,allele_a,allele_b,score,onset_age,phenotype")
	for i := range 1500 {
		score := r.NormFloat64()
		pheno := "typical"
		if score > 1.1 {
			pheno = "early"
		}
		fmt.Fprintf(b, "M%06d,P%d,%d,%d,%.3f,%d,%s\n", i+1, 1+r.IntN(3), r.IntN(4), r.IntN(4), score, 35+int(15*r.Float64()-6*score), pheno)
	}
	return b.Flush()
}

func mask(verb string, args map[string]any) *sallyport.Mask {
	return &sallyport.Mask{Verb: verb, Args: args}
}

// demoCatalog describes the tables. patients-fine is the same table with a
// finer plan, which the second door will find too risky.
func demoCatalog() []sallyport.Dataset {
	columns := func(age, zip, admitted *sallyport.Mask) []sallyport.Column {
		return []sallyport.Column{
			{Name: "mrn", Role: sallyport.Direct, Type: "text", Mask: mask("pseudonym", nil)},
			{Name: "contact", Role: sallyport.Direct, Type: "text", Mask: mask("drop", nil)},
			{Name: "age", Role: sallyport.Quasi, Type: "integer", Mask: age},
			{Name: "sex", Role: sallyport.Quasi, Type: "text", Mask: mask("keep", nil)},
			{Name: "zip", Role: sallyport.Quasi, Type: "text", Mask: zip},
			{Name: "admitted", Role: sallyport.Quasi, Type: "date", Mask: admitted},
			{Name: "diagnosis", Role: sallyport.Sensitive, Type: "text"},
			{Name: "sbp", Role: sallyport.Sensitive, Type: "number"},
			{Name: "hba1c", Role: sallyport.Sensitive, Type: "number"},
			{Name: "ldl", Role: sallyport.Sensitive, Type: "number"},
			{Name: "readmitted", Role: sallyport.Sensitive, Type: "text"},
		}
	}
	patients := sallyport.Ref{Store: "data", Key: "patients.csv"}
	return []sallyport.Dataset{
		{ID: "patients", Title: "Generated ward table", Owner: "steward", Location: patients, Format: "csv",
			Sensitivity: sallyport.Confidential, Purposes: []string{"research"}, Subject: "mrn",
			Columns: columns(mask("generalize", map[string]any{"width": 10}), mask("prefix", map[string]any{"length": 2}), mask("date", map[string]any{"to": "year"}))},
		{ID: "patients-fine", Title: "The same table, with a finer plan", Owner: "steward", Location: patients, Format: "csv",
			Sensitivity: sallyport.Confidential, Purposes: []string{"research"}, Subject: "mrn",
			Columns: columns(mask("generalize", map[string]any{"width": 2}), mask("prefix", map[string]any{"length": 3}), mask("date", map[string]any{"to": "month"}))},
		{ID: "genotypes", Title: "Generated genotype table", Owner: "steward", Location: sallyport.Ref{Store: "data", Key: "genotypes.csv"}, Format: "csv",
			Sensitivity: sallyport.Restricted, Purposes: []string{"research"}, Subject: "mrn",
			Columns: []sallyport.Column{
				{Name: "mrn", Role: sallyport.Direct, Type: "text", Mask: mask("pseudonym", nil)},
				{Name: "panel", Role: sallyport.Insensitive, Type: "text"},
				{Name: "allele_a", Role: sallyport.Sensitive, Type: "integer"},
				{Name: "allele_b", Role: sallyport.Sensitive, Type: "integer"},
				{Name: "score", Role: sallyport.Sensitive, Type: "number"},
				{Name: "onset_age", Role: sallyport.Quasi, Type: "integer"},
				{Name: "phenotype", Role: sallyport.Sensitive, Type: "text"},
			}},
	}
}
