// Where to?, asked of control: k6 run loadtest/k6/route.js   (CONTROL_URL=http://127.0.0.1:7401 RATE=500)
//
// An edge asks a few times a second and keeps the answer; this is what control can do, not what it is asked to.

import { check } from 'k6';
import http from 'k6/http';
import { Counter, Rate, Trend } from 'k6/metrics';

const URL = `${__ENV.CONTROL_URL || 'http://127.0.0.1:7401'}/v1/route`;
const latency = new Trend('headrace_route', true);
const routed = new Rate('headrace_routed');
const shed = new Counter('headrace_route_shed');

export const options = {
  scenarios: {
    route: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 200),
      timeUnit: '1s',
      duration: __ENV.DURATION || '20s',
      preAllocatedVUs: 20,
      maxVUs: 200,
    },
  },
  thresholds: {
    headrace_route: [`p(99)<${Number(__ENV.ROUTE_MS || 50)}`],
    headrace_routed: ['rate>=0.999'],
    dropped_iterations: ['count==0'],
  },
};

const BODY = JSON.stringify({
  model: __ENV.MODEL || 'sim-chat',
  tenant_class: 'default',
  priority_class: 5,
  transport: 'sse',
});

export default function () {
  const sent = { 'content-type': 'application/json' };
  if (__ENV.HEADRACE_EDGE_SECRET) {
    sent.authorization = `Bearer ${__ENV.HEADRACE_EDGE_SECRET}`;
  }
  const answer = http.post(URL, BODY, { headers: sent });
  latency.add(answer.timings.duration);
  // A shed answer is a 200, too: only candidates are a route.
  const body = answer.status === 200 ? answer.json() : {};
  const candidates = (body.candidates || []).length;
  if (answer.status === 200 && candidates === 0) {
    shed.add(1);
  }
  routed.add(candidates > 0);
  check(answer, { 'there is a candidate': () => candidates > 0 });
}
