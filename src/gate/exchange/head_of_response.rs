//! The heads that an upstream answers with: interim ones, a switch of protocols, and the final one.

use super::{Exchange, MAX_INTERIM, RESPONSE_LIMITS};
use crate::gate::headers;
use crate::gate::http1::body::BodyDecoder;
use crate::gate::http1::framing::Framing;
use crate::gate::http1::head;
use crate::gate::reject::Reject;
use crate::gate::request::{Known, RequestHead, Version};

impl Exchange {
    /// Takes heads from the input until a final one; `false` while more input is needed.
    pub(super) fn take_head(&mut self, request: &RequestHead) -> Result<bool, Reject> {
        loop {
            let (input, scanned) = (self.channel.input.data(), self.scanned);
            let taken = head::take_response(input, scanned, RESPONSE_LIMITS, &mut self.head);
            let Some(end) = taken.map_err(Reject::UpstreamError)? else {
                self.scanned = self.channel.input.data().len();
                return Ok(false);
            };
            self.channel.input.consume(end);
            self.scanned = 0;
            match self.head.status {
                101 => return self.switch(request).map(|()| true),
                100..=199 => self.interim += 1,
                _ => return self.begin_body(request).map(|()| true),
            }
            if self.interim > MAX_INTERIM {
                return Err(Reject::UpstreamError("too many interim responses"));
            }
        }
    }

    fn switch(&mut self, request: &RequestHead) -> Result<(), Reject> {
        let asked = request.upgrade.map(|span| span.of(&request.text));
        let mut answers = self.head.fields.of(Known::Upgrade).map(|f| f.value.of(&self.head.text));
        match (asked, answers.next(), answers.next()) {
            (Some(asked), Some(answer), None) if asked.eq_ignore_ascii_case(answer) => {
                self.is_switched = true;
                Ok(())
            }
            _ => Err(Reject::UpstreamError("it switched protocols unasked")),
        }
    }

    fn begin_body(&mut self, request: &RequestHead) -> Result<(), Reject> {
        let has_none = request.is_head() || matches!(self.head.status, 204 | 304);
        if matches!(self.head.status, 204) && self.head.framing == Framing::Chunked {
            return Err(Reject::UpstreamError("a body where there can be none"));
        }
        self.decoder = BodyDecoder::for_response(if has_none { Framing::Empty } else { self.head.framing });
        if has_none && self.head.framing == Framing::UntilClose {
            // Without a body there is nothing that only the end of the connection could end.
            self.head.keep_alive = self.head.version != Version::Http10 && !headers::says_close(&self.head);
        }
        Ok(())
    }
}
