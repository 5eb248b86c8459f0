// Sends a frame of the camera, waits for its prediction, and then sends the next: frames meanwhile are dropped.
const SIDE = 640, PATIENCE = 60000; // pixels of a frame's longer side; milliseconds until a frame counts as lost
const videos = new WeakMap(); // the state of each mounted video

export default function ({ parentElement, data, setStateValue }) {
  const part = (name) => parentElement.querySelector(name);
  const video = part("video"), button = part("button");
  const state = videos.get(parentElement) ?? { id: Date.now(), sent: 0, times: [] };
  videos.set(parentElement, state);

  const say = (name, text) => { part(name).textContent = text; };
  const visible = () => !document.hidden && video.offsetParent !== null;

  function stop() {
    state.stream?.getTracks().forEach((track) => track.stop());
    clearInterval(state.timer);
    state.stream = video.srcObject = null;
    state.waiting = false;
    state.times = [];
    button.textContent = "Start";
  }

  function send() {
    if (!state.stream || !visible() || !video.videoWidth) return;
    const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
    const canvas = new OffscreenCanvas(video.videoWidth * scale, video.videoHeight * scale);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    state.id += 1;
    state.sent = performance.now();
    state.waiting = true;
    canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 }).then((blob) => {
      const reader = new FileReader();
      reader.onload = () => state.set("frame", { id: state.id, image: reader.result.split(",")[1] });
      reader.readAsDataURL(blob);
    });
  }

  async function start() {
    say("#problem", "");
    try {
      if (!navigator.mediaDevices) throw new Error("the browser gives the camera to https and localhost only");
      state.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: SIDE } } });
    } catch (error) {
      say("#problem", `No camera: ${error.message}.`);
      return;
    }
    video.srcObject = state.stream;
    button.textContent = "Stop";
    // A hidden video sends nothing, and a prediction can get lost: so the next frame does not come from an answer alone.
    state.timer = setInterval(() => { if (!state.waiting || performance.now() - state.sent > PATIENCE) send(); }, 500);
  }

  function show(answer) {
    const now = performance.now();
    state.times = [...state.times.slice(-9), now];
    const span = (now - state.times[0]) / 1000;
    const rate = span > 0 ? ` · ${((state.times.length - 1) / span).toFixed(1)} predictions a second` : "";
    say("#problem", answer.error ?? "");
    say("#caption", answer.caption ?? "");
    say("#facts", answer.error ? "" : `${[answer.mos, `${answer.milliseconds} ms`].filter(Boolean).join(" · ")}${rate}`);
  }

  state.set = setStateValue;
  // Streamlit greys what it runs anew, which here is always.
  parentElement.host?.closest("[data-testid='stElementContainer']")?.style.setProperty("opacity", "1", "important");
  button.onclick = () => (state.stream ? stop() : start());
  if (state.stream && data?.id === state.id && data.id !== state.shown) {
    state.shown = data.id;
    state.waiting = false;
    show(data);
    send();
  }
  return () => { if (!parentElement.isConnected) stop(); };
}
