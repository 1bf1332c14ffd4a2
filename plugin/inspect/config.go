package inspect

import (
	"context"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/status/config"

	dto "github.com/prometheus/client_model/go"
)

// Config is the configuration in force: that of the running Corefile, also after a reload of a newer one that has failed.
func (v *Source) Config(context.Context) (*config.InForce, error) {
	shown := &config.InForce{ReloadFailed: reloadFailed(), Stanzas: []config.Stanza{}}
	for _, b := range v.blocks() {
		shown.Stanzas = append(shown.Stanzas, b.ShowConfig()...)
	}
	return shown, nil
}

// reloadFailed reads the metric, so that the page and alerts say the same.
func reloadFailed() bool {
	var m dto.Metric
	return metrics.ReloadFailed.Write(&m) == nil && m.GetGauge().GetValue() == 1
}
