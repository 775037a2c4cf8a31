//! The messages of one name, numbered without a hole.

/// How far a name has come.
#[derive(Debug, Default)]
pub(super) struct Feed {
    count: u64,
    last: u64,
}

impl Feed {
    /// The next message.
    pub(super) fn next(&mut self, name: &str, is_futures: bool) -> String {
        let (symbol, kind) = name.split_once('@').unwrap_or((name, ""));
        let symbol = symbol.to_uppercase();
        self.count += 1;
        let before = self.last;
        let n = self.count;
        match kind.split('@').next().unwrap_or_default() {
            "trade" => {
                self.last += 1;
                let t = self.last;
                format!(
                    r#"{{"e":"trade","E":{n},"s":"{symbol}","t":{t},"p":"0.001","q":"100","T":{n},"m":true,"M":true}}"#
                )
            }
            "aggTrade" => {
                self.last += 1;
                let a = self.last;
                format!(
                    r#"{{"e":"aggTrade","E":{n},"s":"{symbol}","a":{a},"p":"0.001","q":"100","f":{a},"l":{a},"T":{n},"m":true,"M":true}}"#
                )
            }
            "depth" if is_futures => {
                // Numbers are shared by all symbols: between two messages there are others.
                let first = before + 1 + n * 7 % 50;
                self.last = first + n * 13 % 100;
                let u = self.last;
                format!(
                    r#"{{"e":"depthUpdate","E":{n},"T":{n},"s":"{symbol}","U":{first},"u":{u},"pu":{before},"b":[["7.504","813"]],"a":[]}}"#
                )
            }
            "depth" => {
                let first = before + 1;
                self.last = first + n % 3;
                let u = self.last;
                format!(
                    r#"{{"e":"depthUpdate","E":{n},"s":"{symbol}","U":{first},"u":{u},"b":[["0.0024","10"]],"a":[["0.0026","100"]]}}"#
                )
            }
            "bookTicker" => {
                self.last += 1 + n % 5;
                let u = self.last;
                format!(
                    r#"{{"u":{u},"s":"{symbol}","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}}"#
                )
            }
            _ => format!(r#"{{"s":"{symbol}","n":{n}}}"#),
        }
    }
}
