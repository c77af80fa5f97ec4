package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		args   string
		status int
		last   string
	}{
		{"-check", exitOK, "delivered 9 of 9"},
		{"-check -backplane inmem:", exitOK, "delivered 9 of 9"},
		{"-check -backplane inmem:?namespace=other", exitOK, "delivered 9 of 9"},
		{"-check -instances 1", exitOK, "delivered 9 of 9"},
		{"-check -instances 5", exitOK, "delivered 9 of 9"},
		{"-check -instances 12", exitOK, "delivered 9 of 9"},
		{"-check -backplane none", exitFailed, "delivered 3 of 9"},
		{"-check -backplane none -instances 1", exitOK, "delivered 9 of 9"},
		{"-check -backplane none -instances 2", exitFailed, "delivered 5 of 9"},
		{"-check -backplane none -instances 12", exitFailed, "delivered 1 of 9"},
	} {
		status, stdout, stderr := runProgram(t, strings.Fields(tc.args)...)
		if status != tc.status || lastLine(stdout) != tc.last || stderr != "" {
			t.Errorf("%s: status %d, %q, %q", tc.args, status, stdout, stderr)
		}
	}
	wantNoGoroutines(t)
}

func TestCheckSaysWhoIsWhere(t *testing.T) {
	_, stdout, _ := runProgram(t, "-check", "-backplane", "none")
	for _, line := range []string{
		"9 nurses of ward 4B: 3 on instance A, 3 on instance B, 3 on instance C\n",
		"3 nurses of ward 2A: 1 on instance A, 1 on instance B, 1 on instance C\n",
		"nurse 1 raises an alert on instance A\n",
		"nurse 2 on instance B did not get it\n",
		"nurse 9 on instance C did not get it\n",
	} {
		if !strings.Contains(stdout, line) {
			t.Errorf("%q is not in\n%s", line, stdout)
		}
	}
	if strings.Contains(stdout, "nurse 7 ") {
		t.Errorf("nurse 7 is on instance A and got it:\n%s", stdout)
	}
}

// The instances run elsewhere: a balancer's URL, an instance behind it twice, and three that know nothing of one another.
func TestCheckConnects(t *testing.T) {
	farm := startBoard(t)
	lonely := []string{startBoard(t, "-instances", "1").url, startBoard(t, "-instances", "1").url, startBoard(t, "-instances", "1").url}
	for _, tc := range []struct {
		urls   string
		status int
		last   string
	}{
		{farm.url, exitOK, "delivered 9 of 9"},
		{farm.url + "/", exitOK, "delivered 9 of 9"},
		{farm.url + "," + farm.url, exitOK, "delivered 9 of 9"},
		{farm.url + "/without", exitFailed, "delivered 3 of 9"},
		{strings.Join(lonely, ","), exitFailed, "delivered 3 of 9"},
		{lonely[0], exitOK, "delivered 9 of 9"},
	} {
		status, stdout, stderr := runProgram(t, "-check", "-connect", tc.urls)
		if status != tc.status || lastLine(stdout) != tc.last || stderr != "" {
			t.Errorf("%s: status %d, %q, %q", tc.urls, status, stdout, stderr)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name   string
		copies map[int]int // of the nurse with that index, where it is not what is due
		err    error
		last   string
	}{
		{"all once", nil, nil, "delivered 9 of 9"},
		{"one not", map[int]int{4: 0}, errNotDelivered, "delivered 8 of 9"},
		{"one twice", map[int]int{4: 2}, errNotDelivered, "delivered 8 of 9, and 1 copies too many"},
		{"a stranger too", map[int]int{checkMembers: 1}, errNotDelivered, "delivered 9 of 9, and 1 copies too many"},
	} {
		var out bytes.Buffer
		k := &checkup{out: &out}
		for i := range checkMembers + checkOthers {
			due := 1
			if i >= checkMembers {
				due = 0
			}
			if n, other := tc.copies[i]; other {
				due = n
			}
			c := &client{alerts: map[string]int{"x": due, "another": 7}}
			if i < checkMembers {
				k.members = append(k.members, c)
			} else {
				k.others = append(k.others, c)
			}
		}
		if err := k.judge(event{ID: "x"}); !errors.Is(err, tc.err) || lastLine(out.String()) != tc.last {
			t.Errorf("%s: %v, %q", tc.name, err, out.String())
		}
	}
}
