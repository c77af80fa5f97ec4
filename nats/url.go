package nats

import "github.com/gobackplane/backplane/internal/dialing"

// readURL sets the options that the URL gives, and tells whether it asks for TLS.
func (o *Options) readURL() (secure bool, err error) {
	u, err := dialing.Form{Plain: "nats", Secure: "tls", Port: defaultPort, Token: true}.Read(o.URL, dialing.Options{
		dialing.Text("Username", &o.Username), dialing.Text("Password", &o.Password), dialing.Text("Token", &o.Token),
		dialing.Text("CredentialsFile", &o.CredentialsFile), dialing.Text("NKeySeedFile", &o.NKeySeedFile),
		dialing.Text("CAFile", &o.CAFile), dialing.Text("CertFile", &o.CertFile), dialing.Text("KeyFile", &o.KeyFile),
		dialing.Text("ServerName", &o.ServerName),
		dialing.Text("Bucket", &o.Bucket), dialing.Number("Replicas", "1 to 5", &o.Replicas),
	})
	switch {
	case err != nil:
		return false, invalid("%v", err)
	case u.Path != "" && u.Path != "/":
		return false, invalid("URL has a path, which means nothing here; leave it out: applications are kept apart by Namespace")
	}
	o.Addresses = u.Addresses
	return u.Secure, nil
}
