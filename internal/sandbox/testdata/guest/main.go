// Command guest is the module that the tests of package sandbox run: its first
// argument says how it behaves.
package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(9)
	}
}

func run(what string, args []string) error {
	switch what {
	case "echo":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "exit":
		n, err := strconv.Atoi(args[0])
		fmt.Fprintln(os.Stderr, "leaving with", n)
		if err == nil {
			os.Exit(n)
		}
		return err
	case "hog":
		mib, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		var keep [][]byte
		for range mib {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 512 {
				b[i] = 1
			}
			keep = append(keep, b)
		}
		fmt.Println(len(keep))
	case "spin":
		fmt.Println("spinning")
		for i := 0; ; i++ {
			if i == -1 {
				return errors.New("never")
			}
		}
	case "open":
		if f, err := os.Open(args[0]); err == nil {
			f.Close()
			fmt.Println("opened", args[0])
		}
		if f, err := os.Create(args[1]); err == nil {
			f.Close()
			fmt.Println("created", args[1])
		}
	case "write":
		f, err := os.Create(args[0])
		if err != nil {
			return err
		}
		_, err = f.Write([]byte("plain"))
		return errors.Join(err, f.Close())
	case "dial":
		c, err := net.DialTimeout("tcp", args[0], time.Second)
		if err == nil {
			c.Close()
			fmt.Println("connected")
		}
	case "world": // everything that may differ from run to run
		b := make([]byte, 16)
		rand.Read(b)
		fmt.Printf("%x %v %v %d\n", b, time.Now().UTC(), os.Environ(), len(os.Args))
		r := bufio.NewReader(os.Stdin)
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			if err != nil {
				break
			}
			fmt.Println(n, time.Now().Nanosecond())
		}
		m := map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true, 8: true}
		for k := range m {
			fmt.Print(k, " ")
		}
	case "noise":
		for i := range 200_000 {
			fmt.Fprintf(os.Stderr, "line %d\xff\n", i)
		}
	case "deaf":
		fmt.Println("done")
	case "panic":
		var p *int
		*p = 1
	case "env":
		fmt.Println(os.Environ())
	case "fds": // what a native program finds open
		for fd := 3; fd < 64; fd++ {
			to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			if err == nil && to[0] != '/' && to[:4] != "anon" {
				fmt.Println(fd, to)
			}
		}
	case "leave": // a child that keeps the output open
		cmd := exec.Command(args[0], "sleep")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			return err
		}
		fmt.Println("left")
	case "sleep":
		time.Sleep(time.Hour)
	default:
		return errors.New("unknown behavior " + what)
	}
	return nil
}
