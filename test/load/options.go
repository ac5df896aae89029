// Package load puts people in front of a stack, as browsers: each with a cookie and connections of
// its own, who load pages, ask questions and follow the answers, while somebody else updates or
// kills what runs. At the end it looks whether every message that was acknowledged, and its answer,
// are there exactly once and to the letter.
//
// It counts what it sees and hides nothing by trying again: a failed request stays one. What it
// does again is what a browser does, and counted: a refused connection, an event stream that broke,
// and, if asked for, a message whose reply was lost, under the same key.
//
// The text of an answer is known because the model is that of test/slowmodel, or the tiny one with
// its one sentence.
package load

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options say what a load is.
type Options struct {
	// URL is the stack's address. Only a loopback address is taken unless Remote is set.
	URL    string
	Remote bool

	// People is how many ask short questions and look around.
	People int

	// Answers is how many long answers are written at any time, Streams how many event streams are
	// open on them together. Long is how long each answer takes, 0 is half a minute, and Pause the time
	// before each of its words, 0 is 100 ms.
	Answers, Streams int
	Long, Pause      time.Duration

	// Duration ends the load after that time, Requests after so many requests. 0 is no bound: Stop
	// ends it.
	Duration time.Duration
	Requests int

	// Rate bounds the requests of all people together to so many a second. 0 is 40.
	Rate float64

	// Turns is how many questions one conversation gets. 0 is 5.
	Turns int

	// Seed makes what people do repeatable, but for what the stack's timing changes.
	Seed uint64

	// Resend sends a message again, under its key, when its reply was lost.
	Resend bool

	// Sentence is what every answer is, for a model that cannot count; Answers must be 0 then.
	Sentence string

	// Jar returns the cookies of the person with the number, where people sign in; nil has each
	// begin without any.
	Jar func(number int) http.CookieJar

	// Progress gets a line from time to time, if it is not nil.
	Progress func(line string)
}

// Bounds of what a load may be asked for: it is for test stacks.
const (
	maxPeople = 500
	maxRate   = 1000
)

// check completes the options and says what is wrong with them.
func (o *Options) check() (*url.URL, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("url: %q is not http://host:port", o.URL)
	}

	if !o.Remote && !loopback(u.Hostname()) {
		return nil, fmt.Errorf(
			"url: %s is not this machine: another's has to be asked for (remote)",
			u.Hostname(),
		)
	}

	if o.Rate == 0 {
		o.Rate = 40
	}
	if o.Turns == 0 {
		o.Turns = 5
	}
	if o.Long == 0 {
		o.Long = 30 * time.Second
	}
	if o.Pause == 0 {
		o.Pause = 100 * time.Millisecond
	}

	var errs []error
	if o.People < 0 || o.Answers < 0 || o.People+o.Answers == 0 || o.People+o.Answers > maxPeople {
		errs = append(
			errs,
			fmt.Errorf(
				"people and answers: want 1 to %d together, got %d and %d",
				maxPeople,
				o.People,
				o.Answers,
			),
		)
	}

	if o.Streams < o.Answers || o.Answers == 0 && o.Streams > 0 || o.Streams > 10*maxPeople {
		errs = append(
			errs,
			fmt.Errorf(
				"streams: want at least one for each of %d answers, got %d",
				o.Answers,
				o.Streams,
			),
		)
	}

	if o.Rate < 0 || o.Rate > maxRate {
		errs = append(
			errs,
			fmt.Errorf("rate: want up to %d requests a second, got %g", maxRate, o.Rate),
		)
	}

	if o.Sentence != "" && o.Answers > 0 {
		errs = append(errs, errors.New("answers: a model with one sentence writes no long ones"))
	}
	if o.Pause > 0 && o.Pause < time.Millisecond {
		errs = append(errs, fmt.Errorf("pause: want 1ms or more, got %s", o.Pause))
	}
	if o.Duration < 0 || o.Requests < 0 || o.Turns < 1 || o.Long < 0 || o.Pause < 0 {
		errs = append(errs,
			errors.New("duration, requests, turns, long and pause must not be negative"))
	}

	u.Path = strings.TrimRight(u.Path, "/")
	return u, errors.Join(errs...)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
