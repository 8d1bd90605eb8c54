// Package channel holds the channels that have members on this node: their order, their newest messages, their members, and the
// repair of what the broker lost.
//
// What it promises:
//
//   - Members of a channel see its messages in the order of their offsets, each once, none left out, from the position they
//     joined at; or they are told by a reset that this cannot be.
//   - A message that arrives early waits for the ones before it; what is missing is read from the journal once per node,
//     however many members there are.
//   - A position that this node does not know yet, or not any more, is looked up in the journal before it is judged.
//   - A live channel has no part in any of this: no offsets, no journal, no repair. Its messages are delivered at most once, those of
//     one publisher in their order, and a member that is too slow skips ahead to the newest and is told how many it missed.
//   - While the journal is away members stay, and go on where they were when it is back.
//
// Sequencer and place are the decisions, without clock, lock or I/O. Channel owns the state of one channel under its lock;
// Hub owns the table of channels and does the reading.
//
// Lock order: Hub.mu, Channel.mu, then the locks of package fanout; pages.mu and Hub.suspectMu last.
package channel
