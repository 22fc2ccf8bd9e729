package main
import ("testing";"time";"encoding/json";"strings";"sync";"fmt"
"sallyport/audit";"sallyport/gateway";"sallyport/gateway/control")
func TestZZSpeed(t *testing.T){
 l:=newLab(t)
 a:=&app{ctx:t.Context(),config:l.cfg.dir+"/sallyport.yaml"}
 l.start(""); l.stop()
 iss,err:=a.issuer(l.cfg); if err!=nil{t.Fatal(err)}
 ac,err:=auditConfig(t.Context(),l.cfg,iss,time.Now); if err!=nil{t.Fatal(err)}
 lg,err:=audit.Open(ac); if err!=nil{t.Fatal(err)}
 d,_:=json.Marshal(map[string]string{"x":strings.Repeat("abc ",700)})
 var wg sync.WaitGroup
 for range 64 { wg.Go(func(){ for range 500 { lg.Append(t.Context(),audit.Entry{Step:"zz",Phase:audit.Note,Subject:"ada",Detail:d}) } }) }
 wg.Wait(); lg.Close(); iss.Close()
 c:=l.start("")
 began:=time.Now(); n:=0
 for _,err:=range c.ReadLog(t.Context(),control.LogQuestion{LogQuery:gateway.LogQuery{Filter:audit.Filter{Step:"zz"}}}) { if err!=nil{t.Fatal(err)}; n++ }
 fmt.Println(n, time.Since(began), float64(n)/time.Since(began).Seconds())
 began=time.Now()
 r,err:=c.LogReview(t.Context(),""); fmt.Println(r.Counts.Records, err, time.Since(began))
 began=time.Now()
 r,err=c.LogReview(t.Context(),""); fmt.Println(r.Counts.Records, err, time.Since(began))
 began=time.Now()
 for range 50 { _,err=c.ShowRecord(t.Context(),control.LogAct{Record:300}) }
 fmt.Println("show", time.Since(began)/50, err)
 l.stop()
}
