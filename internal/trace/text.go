package trace

import (
	"math/rand/v2"
	"unicode/utf8"
)

// phrases are what viewers of a live stream might write; all invented.
var phrases = []string{
	"哈哈哈哈哈", "666666", "来了来了", "主播加油！", "前方高能", "这也太强了吧", "第一次看直播", "晚上好呀", "打卡", "笑死我了",
	"好听好听", "再来一首", "泪目了", "求歌名", "名场面", "弹幕护体", "冲冲冲", "太可爱了吧", "我来晚了吗", "有没有人和我一样激动",
	"hello from the back row", "what a play", "let's goooo", "first time here", "no way", "that was so close", "GG", "LOL",
	"can you turn up the music", "greetings from far away", "one more, please", "this is amazing", "who is winning?", "good evening",
	"👏👏👏", "🎉", "❤️", "😂😂",
}

// pads fill what is left when the next character does not fit.
var pads = []byte("!~.?")

// Text invents the text of message number i: exactly n bytes of valid UTF-8 without control characters. The same
// seed, number and length give the same text.
func Text(seed, i uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, i))
	b := make([]byte, 0, n+64)
	for len(b) < n {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, phrases[r.IntN(len(phrases))]...)
	}
	cut := n
	for cut > 0 && cut < len(b) && !utf8.RuneStart(b[cut]) {
		cut--
	}
	b = b[:cut]
	pad := pads[r.IntN(len(pads))]
	for len(b) < n {
		b = append(b, pad)
	}
	return string(b)
}
