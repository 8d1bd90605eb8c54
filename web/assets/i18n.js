// The texts of the page in both languages. A text is a string or a function of one parameter.

const TEXTS = {
  en: {
    title: (c) => `#${c} · Barrage`,
    stage: 'Stage',
    chat: 'Chat',
    messages: 'Messages',
    empty: 'It is quiet in here',
    emptyHint: 'Say something and watch it fly.',
    offlineTitle: 'Trying to reach the room',
    offlineHint: 'It reconnects by itself and picks up where it left off.',
    connecting: 'Connecting',
    live: 'Live',
    waiting: (s) => (s > 0 ? `Reconnecting in ${s} s` : 'Reconnecting'),
    offline: 'Offline',
    ended: 'Disconnected',
    invalid: 'This channel cannot be opened',
    openLobby: 'Open the lobby',
    tokenMissing: 'This room needs a token',
    tokenMissingHint: 'Put it behind the address of this page: #token=…',
    tokenInvalid: 'The token is not valid',
    tokenInvalidHint: 'Put another one behind the address of this page: #token=…',
    tokenExpired: 'The token has expired',
    tokenExpiredHint: 'Put a new one behind the address of this page: #token=…',
    denied: 'This room is not open to you',
    deniedHint: 'Choose another channel, or put another token behind the address of this page: #token=…',
    connections: 'You have too many connections',
    connectionsHint: 'Close this room somewhere else, then reconnect.',
    forced: 'The server has ended the connection',
    reconnect: 'Reconnect',
    reconnectNow: 'Reconnect now',
    viewers: (n) => (n === '1' ? '1 viewer' : `${n} viewers`),
    node: (n) => `served by node ${n}`,
    dropped: (n) => `+${n} in chat only`,
    droppedHint: 'The stage was full; the chat shows every message.',
    danmaku: 'Flying messages',
    theme: 'Dark or light',
    language: '切换到中文',
    languageShort: '中',
    channel: 'Channel',
    changeChannel: 'Change channel',
    channelHint: 'Any name; whoever opens the same one is in the same room.',
    open: 'Open',
    cancel: 'Cancel',
    name: 'Your name',
    user: 'The name that you are signed in under',
    text: 'Say something…',
    send: 'Send',
    anonymous: 'anonymous',
    guest: 'guest',
    you: 'you',
    newMessages: (n) => (n === 1 ? '1 new message' : `${n} new messages`),
    latest: 'Back to the latest',
    beginning: 'This is where the room begins',
    loading: 'Loading…',
    missing: 'Some messages are missing here',
    sending: 'sending…',
    failed: 'not sent',
    retry: 'Try again',
    dismiss: 'Discard',
    full: 'Too many messages wait to be sent. Wait a moment.',
    tooLong: 'This message is too long.',
    channelEmpty: 'Give the channel a name.',
    channelLong: 'This name is too long: at most 255 bytes.',
    channelControl: 'A name cannot hold control characters.',
    channelDots: 'A browser cannot open a channel named with dots only.',
  },
  zh: {
    title: (c) => `#${c} · Barrage 弹幕`,
    stage: '舞台',
    chat: '聊天',
    messages: '消息',
    empty: '这里还很安静',
    emptyHint: '说点什么,看它飞过去。',
    offlineTitle: '正在重新连接房间',
    offlineHint: '会自动重连,并从断开的地方继续。',
    connecting: '连接中',
    live: '直播中',
    waiting: (s) => (s > 0 ? `${s} 秒后重连` : '正在重连'),
    offline: '已离线',
    ended: '已断开',
    invalid: '无法打开这个频道',
    openLobby: '进入大厅',
    tokenMissing: '进入这个房间需要令牌',
    tokenMissingHint: '请把令牌加在本页地址的末尾:#token=…',
    tokenInvalid: '令牌无效',
    tokenInvalidHint: '请在本页地址的末尾换上另一个令牌:#token=…',
    tokenExpired: '令牌已过期',
    tokenExpiredHint: '请在本页地址的末尾换上新的令牌:#token=…',
    denied: '你无权进入这个房间',
    deniedHint: '请换一个频道,或在本页地址的末尾换上另一个令牌:#token=…',
    connections: '你的连接太多了',
    connectionsHint: '请先在别处关闭这个房间,再重新连接。',
    forced: '服务器结束了连接',
    reconnect: '重新连接',
    reconnectNow: '立即重连',
    viewers: (n) => `${n} 人在看`,
    node: (n) => `由节点 ${n} 提供服务`,
    dropped: (n) => `另有 ${n} 条仅在聊天栏`,
    droppedHint: '舞台已满,聊天栏会显示全部消息。',
    danmaku: '弹幕开关',
    theme: '深色或浅色',
    language: 'Switch to English',
    languageShort: 'EN',
    channel: '频道',
    changeChannel: '切换频道',
    channelHint: '名字随意,打开同一个名字的人就在同一个房间。',
    open: '进入',
    cancel: '取消',
    name: '你的名字',
    user: '你登录所用的名字',
    text: '发条弹幕吧…',
    send: '发送',
    anonymous: '匿名',
    guest: '游客',
    you: '我',
    newMessages: (n) => `${n} 条新消息`,
    latest: '回到最新',
    beginning: '房间从这里开始',
    loading: '加载中…',
    missing: '此处缺少部分消息',
    sending: '发送中…',
    failed: '未发送',
    retry: '重试',
    dismiss: '放弃',
    full: '等待发送的消息太多,请稍候。',
    tooLong: '这条消息太长了。',
    channelEmpty: '请填写频道名。',
    channelLong: '频道名太长:最多 255 字节。',
    channelControl: '频道名不能包含控制字符。',
    channelDots: '浏览器无法打开只有点的频道名。',
  },
};

export const LANGUAGES = Object.keys(TEXTS);

let current = 'en';

// pickLanguage chooses by what was saved, then by what the browser prefers.
export function pickLanguage(saved, preferred = []) {
  if (LANGUAGES.includes(saved)) return saved;
  for (const tag of preferred) {
    const language = String(tag).toLowerCase().split('-')[0];
    if (LANGUAGES.includes(language)) return language;
  }
  return 'en';
}

export const language = () => current;

// t is the text of a key in the current language.
export function t(key, parameter) {
  const text = TEXTS[current][key];
  return typeof text === 'function' ? text(parameter) : text;
}

// setLanguage changes the language and every text in the document that is marked with data-i18n (its text),
// data-i18n-label (its accessible name and tooltip) or data-i18n-placeholder.
export function setLanguage(to) {
  current = to;
  document.documentElement.lang = to === 'zh' ? 'zh-CN' : 'en';
  for (const e of document.querySelectorAll('[data-i18n]')) e.textContent = t(e.dataset.i18n);
  for (const e of document.querySelectorAll('[data-i18n-placeholder]')) e.placeholder = t(e.dataset.i18nPlaceholder);
  for (const e of document.querySelectorAll('[data-i18n-label]')) setLabel(e, e.dataset.i18nLabel);
}

// setLabel gives an element its accessible name, which is also the tooltip of buttons and of inputs that cannot be edited.
export function setLabel(e, key) {
  e.dataset.i18nLabel = key;
  e.setAttribute('aria-label', t(key));
  if (e.tagName === 'BUTTON' || e.readOnly) e.title = t(key);
  else e.removeAttribute('title');
}

export const texts = TEXTS;
