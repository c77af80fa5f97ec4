package main

import (
	"bytes"
	"embed"
	"net/http"
	"path"
	"time"
)

//go:embed page.html page.css page.js ward.js
var pageFiles embed.FS

// pageHandler serves the page. Every instance has it, so that it does not matter which one the balancer asks.
func pageHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		if r.URL.Path == "/" {
			name = "page.html"
		}
		data, err := pageFiles.ReadFile(name)
		if err != nil || path.Dir(r.URL.Path) != "/" {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
	})
}
