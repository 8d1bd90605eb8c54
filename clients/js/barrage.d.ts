/**
 * The pause before attempt number n (from 0), in milliseconds: full jitter under a ceiling that doubles.
 * @param {number} attempt
 * @param {() => number} random
 */
export function backoff(attempt: number, random: () => number): number;
/**
 * Whether a close code invites to come back.
 * @param {number} code
 */
export function mayReconnect(code: number): boolean;
/** A random idempotency key. */
export function newId(): string;
/**
 * @typedef {object} Message
 * @property {number} [offset] its place in the channel: 1, 2, 3, …; a live channel has none
 * @property {number} time when it was stored, in Unix milliseconds
 * @property {string} [user] who published it
 * @property {string} [client] by which connection
 * @property {any} data any JSON value
 * @property {any} [info] what the publisher's connection token says of them
 * @property {any} [chan_info] what their subscription token says of them
 * @property {Record<string, string>} [tags] set by the server API
 *
 * @typedef {object} Welcome
 * @property {string} node the node that serves this connection
 * @property {string} client the id of this connection
 * @property {string} channel
 * @property {string} [epoch] which life of the journal the offsets belong to
 * @property {number} [offset] the channel's head
 * @property {boolean} [live] the channel stores nothing: no offsets, no history
 * @property {string} [user] who the token says you are
 * @property {number} [expires] when the token ends, in Unix seconds
 * @property {number} [max_payload] the largest message the server takes, in bytes; an older one does not tell
 *
 * @typedef {object} Reset
 * @property {string} [epoch]
 * @property {number} offset the stream goes on after it
 * @property {string} reason
 *
 * @typedef {object} Member
 * @property {string} user
 * @property {string} client
 * @property {any} [info]
 * @property {any} [chan_info]
 *
 * @typedef {object} Presence
 * @property {Member[]} members
 * @property {number} clients connections in the channel
 * @property {number} users distinct users
 * @property {boolean} [exact] false when `users` is an estimate
 * @property {boolean} [sampled] `members` is a part of them
 *
 * @typedef {object} Info
 * @property {number} members connections in the channel
 * @property {number} nodes on how many nodes
 * @property {number} [users] distinct users
 * @property {boolean} [exact] false when `users` is an estimate
 *
 * @typedef {object} Range
 * @property {number} [since] messages after this offset
 * @property {number} [before] messages before this offset; without both, the last ones
 * @property {number} [limit] 1 to 1000; 100 without it
 *
 * @typedef {object} Page
 * @property {Message[]} messages ascending
 * @property {boolean} more another page follows in the direction asked for
 * @property {number} offset the channel's head
 * @property {string} epoch
 *
 * @typedef {object} State
 * @property {Phase} phase
 * @property {number} [at] waiting: when the next attempt comes, in Unix milliseconds
 * @property {number} [code] waiting, ended: the close code
 * @property {string} [reason]
 *
 * `live`: joined. `waiting`: comes back by itself. `ended`: the server said that coming back is pointless; only
 * `connect()` tries again. `closed`: by `close()`.
 * @typedef {'idle' | 'connecting' | 'live' | 'waiting' | 'ended' | 'closed'} Phase
 *
 * `message` and `messages` carry the same: one at a time, and what came together. `skipped`: this connection was too
 * slow for a live channel. `error`: what belongs to no call, such as a token that could not be renewed.
 * @typedef {{state: State, welcome: Welcome, message: Message, messages: Message[], reset: Reset, join: Member,
 *   leave: Member, skipped: {count: number}, error: BarrageError}} Events
 *
 * @typedef {(url: string, protocols?: string[]) => Pick<WebSocket, 'send' | 'close' | 'onmessage' | 'onclose'>} Dial
 *
 * @typedef {object} Options
 * @property {string} [name] display name of an anonymous user
 * @property {string | (() => string | Promise<string>)} [token] who you are. A function is asked when there is no
 *   token yet, before it expires, and when connections are refused; an ordinary reconnect uses the last one again
 * @property {number} [last] begin with the last messages, at most 1000
 * @property {number} [since] begin after this offset
 * @property {string} [epoch] which `since` belongs to
 * @property {boolean} [echo] false leaves out your own messages
 * @property {boolean} [members] true asks for `join` and `leave`
 * @property {number} [outbox] how many publishes may wait for their acknowledgement; 100 without it
 * @property {any} [WebSocket] a constructor, where there is no global one
 * @property {(f: () => void, ms: number) => any} [setTimeout]
 * @property {(id: any) => void} [clearTimeout]
 * @property {() => number} [now] Unix milliseconds, for the ends of tokens and what is told
 * @property {() => number} [elapsed] milliseconds of a clock that nobody sets, for how long something took
 * @property {() => number} [random] 0 up to 1
 */
/**
 * Why a call failed. `code` is a number of the server's table of errors, or one of these: `full` (too many publishes
 * wait), `busy` (too many questions at once, or the id is on its way), `too_large` (for the server; nothing was stored),
 * `timeout`, `ended`, `closed`, `token`.
 */
export class BarrageError extends Error {
    /**
     * @param {number | string} code
     * @param {string} message
     * @param {boolean} [retry] whether the same call can succeed later; a publish with the same id is safe to repeat
     */
    constructor(code: number | string, message: string, retry?: boolean);
    code: string | number;
    retry: boolean;
}
/**
 * @typedef {object} Call
 * @property {string} kind
 * @property {string} line what is sent
 * @property {number} size of that, in bytes
 * @property {boolean} sent on the current connection
 * @property {number} refusals
 * @property {any} timer
 * @property {(answer: any) => void} resolve
 * @property {(error: Error) => void} reject
 */
export class Barrage {
    /**
     * @param {string | string[]} url the cluster, like wss://example.com; each attempt takes the next of several
     * @param {string} channel
     * @param {Options} [options]
     */
    constructor(url: string | string[], channel: string, options?: Options);
    channel: string;
    /** The display name; a change counts from the next `connect()`. */
    name: string;
    /** @returns {Phase} */
    get phase(): Phase;
    /** Where the stream stands, to go on from there later by `since` and `epoch`; null when it is not known yet. */
    get position(): {
        offset: number;
        epoch: string;
    } | null;
    /** Whether `publish` would be refused because too many wait. */
    get full(): boolean;
    /**
     * Calls a function for each event of a type; the result ends that.
     * @template {keyof Events} T
     * @param {T} type
     * @param {(detail: Events[T]) => void} listener
     * @returns {() => void}
     */
    on<T extends keyof Events>(type: T, listener: (detail: Events[T]) => void): () => void;
    /** Connects now, whatever it was waiting for; a connection that is there is left for a new one. */
    connect(): this;
    /** Ends it. What was not acknowledged fails with the code `closed`; it may have been stored. */
    close(): void;
    /** Called by itself when the network came back or the page is looked at again: makes sure of the connection. */
    wake(): void;
    /**
     * Publishes any JSON value, once, however often the connection is lost meanwhile. Resolves to the message's offset when
     * it is stored (0 in a live channel), and fails with a BarrageError: at once when too many wait, unsent when it is too large for
     * the server, or with the server's refusal.
     * @param {any} data
     * @param {{id?: string}} [options] id: an idempotency key of your own, at most 128 bytes
     * @returns {Promise<number>}
     */
    publish(data: any, { id }?: {
        id?: string;
    }): Promise<number>;
    /**
     * One page of the past. It does not move the stream.
     * @param {Range} [range]
     * @returns {Promise<Page>}
     */
    history(range?: Range): Promise<Page>;
    /**
     * Page after page: on from `since`, or back from `before` or from the end.
     * @param {Range} [range]
     * @returns {AsyncGenerator<Page, void, void>}
     */
    pages(range?: Range): AsyncGenerator<Page, void, void>;
    /**
     * How large the audience is.
     * @returns {Promise<Info>}
     */
    info(): Promise<Info>;
    /**
     * Who is there.
     * @returns {Promise<Presence>}
     */
    presence(): Promise<Presence>;
    #private;
}
export type Message = {
    /**
     * its place in the channel: 1, 2, 3, …; a live channel has none
     */
    offset?: number | undefined;
    /**
     * when it was stored, in Unix milliseconds
     */
    time: number;
    /**
     * who published it
     */
    user?: string | undefined;
    /**
     * by which connection
     */
    client?: string | undefined;
    /**
     * any JSON value
     */
    data: any;
    /**
     * what the publisher's connection token says of them
     */
    info?: any;
    /**
     * what their subscription token says of them
     */
    chan_info?: any;
    /**
     * set by the server API
     */
    tags?: Record<string, string> | undefined;
};
export type Welcome = {
    /**
     * the node that serves this connection
     */
    node: string;
    /**
     * the id of this connection
     */
    client: string;
    channel: string;
    /**
     * which life of the journal the offsets belong to
     */
    epoch?: string | undefined;
    /**
     * the channel's head
     */
    offset?: number | undefined;
    /**
     * the channel stores nothing: no offsets, no history
     */
    live?: boolean | undefined;
    /**
     * who the token says you are
     */
    user?: string | undefined;
    /**
     * when the token ends, in Unix seconds
     */
    expires?: number | undefined;
    /**
     * the largest message the server takes, in bytes; an older one does not tell
     */
    max_payload?: number | undefined;
};
export type Reset = {
    epoch?: string | undefined;
    /**
     * the stream goes on after it
     */
    offset: number;
    reason: string;
};
export type Member = {
    user: string;
    client: string;
    info?: any;
    chan_info?: any;
};
export type Presence = {
    members: Member[];
    /**
     * connections in the channel
     */
    clients: number;
    /**
     * distinct users
     */
    users: number;
    /**
     * false when `users` is an estimate
     */
    exact?: boolean | undefined;
    /**
     * `members` is a part of them
     */
    sampled?: boolean | undefined;
};
export type Info = {
    /**
     * connections in the channel
     */
    members: number;
    /**
     * on how many nodes
     */
    nodes: number;
    /**
     * distinct users
     */
    users?: number | undefined;
    /**
     * false when `users` is an estimate
     */
    exact?: boolean | undefined;
};
export type Range = {
    /**
     * messages after this offset
     */
    since?: number | undefined;
    /**
     * messages before this offset; without both, the last ones
     */
    before?: number | undefined;
    /**
     * 1 to 1000; 100 without it
     */
    limit?: number | undefined;
};
export type Page = {
    /**
     * ascending
     */
    messages: Message[];
    /**
     * another page follows in the direction asked for
     */
    more: boolean;
    /**
     * the channel's head
     */
    offset: number;
    epoch: string;
};
export type State = {
    phase: Phase;
    /**
     * waiting: when the next attempt comes, in Unix milliseconds
     */
    at?: number | undefined;
    /**
     * waiting, ended: the close code
     */
    code?: number | undefined;
    /**
     * `live`: joined. `waiting`: comes back by itself. `ended`: the server said that coming back is pointless; only
     * `connect()` tries again. `closed`: by `close()`.
     */
    reason?: string | undefined;
};
/**
 * `message` and `messages` carry the same: one at a time, and what came together. `skipped`: this connection was too
 * slow for a live channel. `error`: what belongs to no call, such as a token that could not be renewed.
 */
export type Phase = "idle" | "connecting" | "live" | "waiting" | "ended" | "closed";
export type Events = {
    state: State;
    welcome: Welcome;
    message: Message;
    messages: Message[];
    reset: Reset;
    join: Member;
    leave: Member;
    skipped: {
        count: number;
    };
    error: BarrageError;
};
export type Dial = (url: string, protocols?: string[]) => Pick<WebSocket, "send" | "close" | "onmessage" | "onclose">;
export type Options = {
    /**
     * display name of an anonymous user
     */
    name?: string | undefined;
    /**
     * who you are. A function is asked when there is no
     * token yet, before it expires, and when connections are refused; an ordinary reconnect uses the last one again
     */
    token?: string | (() => string | Promise<string>) | undefined;
    /**
     * begin with the last messages, at most 1000
     */
    last?: number | undefined;
    /**
     * begin after this offset
     */
    since?: number | undefined;
    /**
     * which `since` belongs to
     */
    epoch?: string | undefined;
    /**
     * false leaves out your own messages
     */
    echo?: boolean | undefined;
    /**
     * true asks for `join` and `leave`
     */
    members?: boolean | undefined;
    /**
     * how many publishes may wait for their acknowledgement; 100 without it
     */
    outbox?: number | undefined;
    /**
     * a constructor, where there is no global one
     */
    WebSocket?: any;
    setTimeout?: ((f: () => void, ms: number) => any) | undefined;
    clearTimeout?: ((id: any) => void) | undefined;
    /**
     * Unix milliseconds, for the ends of tokens and what is told
     */
    now?: (() => number) | undefined;
    /**
     * milliseconds of a clock that nobody sets, for how long something took
     */
    elapsed?: (() => number) | undefined;
    /**
     * 0 up to 1
     */
    random?: (() => number) | undefined;
};
export type Call = {
    kind: string;
    /**
     * what is sent
     */
    line: string;
    /**
     * of that, in bytes
     */
    size: number;
    /**
     * on the current connection
     */
    sent: boolean;
    refusals: number;
    timer: any;
    resolve: (answer: any) => void;
    reject: (error: Error) => void;
};
