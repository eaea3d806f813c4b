package syncdb

import "time"

// clockLeap is how far a clock may have gone on since data was looked through for what is old last, to be believed: the service looks every day.
const clockLeap = 48 * time.Hour

// Always is later than whatever the ledger has a time of: what is to be removed before it is all of it, whatever clock it was written by.
func Always() time.Time { return time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC) }

// Believed returns the time by which data is old enough to be removed: now, or two days after last, the time it was looked through before, zero = never. A
// clock that was set forward by mistake (F57) must not remove at once what cannot be had back; when it says the same the next time it is right.
func Believed(now, last time.Time) time.Time {
	if limit := last.Add(clockLeap); !last.IsZero() && now.After(limit) {
		return limit
	}
	return now
}
