package anonymize_test

import (
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/transform"
)

func runner() *anonymize.Runner {
	return anonymize.NewRunner([]anonymize.Format{csv.New()}, []anonymize.Transform{
		transform.Drop{}, transform.Mask{}, transform.Replace{}, transform.Pseudonym{}, transform.Generalize{},
		transform.Date{}, transform.Prefix{}, transform.Hierarchy{}, transform.ShiftDate{}, transform.Cap{},
	})
}
