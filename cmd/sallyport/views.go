package main

import (
	"time"

	"sallyport/routing"
)

type nodeView = routing.Node

func demoClock() time.Time { return time.Now().UTC() }
