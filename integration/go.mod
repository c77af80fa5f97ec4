module github.com/gobackplane/backplane/integration

go 1.26.0

require github.com/gobackplane/backplane v0.0.0

require (
	github.com/alicebob/miniredis/v2 v2.40.0
	github.com/yuin/gopher-lua v1.1.1 // indirect
)

replace github.com/gobackplane/backplane => ../
