package sync

// Joining bounds how many gone entries of a resource are joined with new rows as natural-key changes.
func (o *Options) Joining(most int64) { o.limits.moves = most }

// LookingUp bounds how many strays of a resource a run looks up.
func (o *Options) LookingUp(most int) { o.limits.strays = most }
