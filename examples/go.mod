module github.com/gobackplane/backplane/examples

go 1.26.0

require github.com/gobackplane/backplane v0.0.0

replace github.com/gobackplane/backplane => ../
