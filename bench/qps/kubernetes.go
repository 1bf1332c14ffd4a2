package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

// startAPI serves as much of the API of Kubernetes as the plugin kubernetes asks for: one headless Service with an endpoint for
// each address of the zone. Nothing ever changes, so a watch has no events. It returns the URL, and serves until the program
// ends. What an API server costs is not measured, so it need not be a real one; the plugin and its cache are.
func startAPI(z zone) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	lists := map[string]string{
		"/api/v1/namespaces":                       list("v1", "NamespaceList", `{"metadata":{"name":"default"}}`),
		"/api/v1/services":                         list("v1", "ServiceList", `{"metadata":{"name":"www","namespace":"default"},"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":[{"name":"www","port":80}]}}`),
		"/apis/discovery.k8s.io/v1/endpointslices": list("discovery.k8s.io/v1", "EndpointSliceList", z.endpointSlice()),
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch body, known := lists[r.URL.Path]; {
		case !known:
			http.NotFound(w, r)
		case r.URL.Query().Get("sendInitialEvents") == "true": // the client lists instead
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		case r.URL.Query().Get("watch") != "":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			fmt.Fprint(w, body)
		}
	}
	go func() { _ = http.Serve(l, http.HandlerFunc(handler)) }()
	return "http://" + l.Addr().String(), nil
}

// list returns a list of objects of the API, in JSON.
func list(version, kind, items string) string {
	return fmt.Sprintf(`{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"1"},"items":[%s]}`, kind, version, items)
}

// endpointSlice returns the endpoints of the Service, in JSON.
func (z zone) endpointSlice() string {
	var endpoints []string
	for i := range z.addresses {
		endpoints = append(endpoints, fmt.Sprintf(`{"addresses":["127.0.1.%d"],"conditions":{"ready":true}}`, i+1))
	}
	return fmt.Sprintf(`{"metadata":{"name":"www-1","namespace":"default","labels":{"kubernetes.io/service-name":"www"}},"addressType":"IPv4","ports":[{"name":"www","port":80,"protocol":"TCP"}],"endpoints":[%s]}`,
		strings.Join(endpoints, ","))
}
