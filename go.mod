module github.com/gobackplane/backplane

go 1.26.0
