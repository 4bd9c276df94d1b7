//! A real Chromium, driven over its debugging pipe: messages of JSON, each ended by a NUL.

use super::DEADLINE;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use tempfile::TempDir;

/// Where Debian, Ubuntu and others put it.
const PLACES: [&str; 4] =
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/snap/bin/chromium"];

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    next: u64,
    session: Value,
    frame: Value,
    _profile: TempDir,
}

impl Browser {
    /// A browser with one empty page; `None`, loudly, where there is none. Continuous integration has one.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same, told more.
    pub fn start_with(more: &[&str]) -> Option<Self> {
        let found = PLACES.iter().map(Path::new).find(|path| path.exists());
        let Some(program) = found else {
            assert!(std::env::var_os("CI").is_none(), "no Chromium; .ci/run installs it");
            eprintln!("SKIPPED: no Chromium on this machine (Debian: apt-get install chromium)");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // Chromium reads descriptor 3 and writes descriptor 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 1>/dev/null"])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--host-resolver-rules=MAP * 127.0.0.1"])
            .args(["--remote-debugging-pipe", "--lang=zh-CN"])
            .args(more)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (to, mut out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while out.read_until(0, &mut message).is_ok_and(|octets| octets > 0) {
                message.pop();
                let parsed = serde_json::from_slice(&message).unwrap_or(Value::Null);
                message.clear();
                if sender.send(parsed).is_err() {
                    break;
                }
            }
        });
        let mut browser =
            Self { child, to, from, next: 0, session: Value::Null, frame: Value::Null, _profile: profile };
        let page = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = json!({ "targetId": page["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", &attached)["sessionId"].clone();
        browser.call("Page.enable", &json!({}));
        browser.call("Runtime.enable", &json!({}));
        browser.frame = browser.call("Page.getFrameTree", &json!({}))["frameTree"]["frame"]["id"].clone();
        Some(browser)
    }

    /// Calls a method of the debugging protocol and waits for its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": parameters });
        if self.session.is_string() {
            message["sessionId"] = self.session.clone();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        let id = self.next;
        let answer = self.until(method, |message| message["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    #[track_caller]
    fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let patience = 6 * DEADLINE;
        loop {
            match self.from.recv_timeout(patience) {
                Ok(message) if is_it(&message) => return message,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("waited {patience:?} for {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("Chromium ended before {what}"),
            }
        }
    }

    /// The window's width and height in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    pub fn dark(&mut self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Goes to a URL and waits until it is loaded.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        let gone = self.call("Page.navigate", &json!({ "url": url }));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// Shows a page as if it had been fetched; without its headers.
    pub fn show(&mut self, html: &str) {
        let frame = self.frame.clone();
        self.call("Page.setDocumentContent", &json!({ "frameId": frame, "html": html }));
    }

    /// The value of an expression, promises awaited.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.call("Runtime.evaluate", &asked);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true; a page that is just being left is asked again.
    #[track_caller]
    pub fn wait_for(&mut self, expression: &str) {
        super::wait(expression, || {
            let asked = json!({ "expression": expression, "returnByValue": true });
            (self.call("Runtime.evaluate", &asked)["result"]["value"] == true).then_some(())
        });
    }

    /// Clicks the middle of the first element that the selector finds, as a hand would.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let selector = json!(selector);
        let place = self.eval(&format!(
            "(() => {{ const it = document.querySelector({selector}); it.scrollIntoView({{block: 'center'}}); \
             const box = it.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Types into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Presses `Tab` or `Enter`.
    pub fn press(&mut self, key: &str) {
        let (code, text) = if key == "Enter" { (13, "\r") } else { (9, "") };
        let focused = json!({ "enabled": true });
        self.call("Emulation.setFocusEmulationEnabled", &focused);
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// A picture of the page as PNG, where `BEIAN_GATE_SHOTS` names a directory for it.
    pub fn shoot(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("BEIAN_GATE_SHOTS") else { return };
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.call("Page.captureScreenshot", &asked);
        let path = PathBuf::from(directory).join(format!("{name}.png.base64"));
        std::fs::write(path, picture["data"].as_str().unwrap()).unwrap();
    }

    /// What axe-core finds wrong with the page; `None`, loudly, where it is not installed.
    pub fn findings(&mut self) -> Option<Vec<String>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/axe/node_modules/axe-core/axe.min.js");
        let Ok(axe) = std::fs::read_to_string(&path) else {
            assert!(std::env::var_os("CI").is_none(), "no {}; .ci/run brings it", path.display());
            eprintln!("SKIPPED: no axe-core (npm install --prefix target/axe axe-core)");
            return None;
        };
        self.eval(&axe);
        let found = self.eval(
            "axe.run(document, {runOnly: ['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']})\
             .then(it => it.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.html).join(' | ')))",
        );
        Some(found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect())
    }
}

impl Browser {
    /// `findings` of a page whose policy admits no script but its own.
    pub fn findings_within_policy(&mut self) -> Option<Vec<String>> {
        self.call("Page.setBypassCSP", &json!({ "enabled": true }));
        let found = self.findings();
        self.call("Page.setBypassCSP", &json!({ "enabled": false }));
        found
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
