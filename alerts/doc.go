// Package alerts tells people and programs when something is wrong with a connection, and when it is right again: once for each change, however many
// processes look and whichever of them die. What is wrong is computed from the ledger by pure functions; where an alert is and whom it has to be told is in
// the ledger, changed in one transaction. Delivery to webhooks and by mail is at least once: each notice has an id by which a receiver knows it again.
//
// It does not know how connections are configured, nor who may mute an alert.
package alerts
