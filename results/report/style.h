// The style sheet of the HTML report, and the hatchings that its plots use.
#pragma once

namespace crashworthy::report {

inline constexpr const char* kStyle = R"css(
:root{--bg:#fdfdfc;--card:#fff;--ink:#1b1e23;--soft:#5b626c;--faint:#8a919b;--rule:#e3e4e1;
--tint:#f5f5f2;--good:#18794e;--bad:#c0322b;--unsure:#96610a;--goodbg:#e9f5ee;--badbg:#fdeceb;
--unsurebg:#fcf3df;--a0:#c2410c;--a1:#1d5fbf;--a2:#0f7b6c;--a3:#8a3ffc;--a4:#9f6b00;--a5:#5c6670;
--p0:#7a3e9d;--p1:#d9822b;--p2:#2f7fc1;--p3:#8fb8a4}
@media (prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1b1e23;--ink:#e9eaec;--soft:#a9b0ba;
--faint:#7c8490;--rule:#31353c;--tint:#22262c;--good:#58c08e;--bad:#f0827a;--unsure:#e0ae55;
--goodbg:#16291f;--badbg:#331b1a;--unsurebg:#2e2512;--a0:#f58a54;--a1:#76a9f5;--a2:#4dc4b2;
--a3:#b893ff;--a4:#d9ac4a;--a5:#a5aeb8;--p0:#b47fd4;--p1:#e8a25c;--p2:#6caee3;--p3:#9cc7b2}}
*{box-sizing:border-box}
html{background:var(--bg);color:var(--ink);-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:40px 32px 72px;max-width:1180px;
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:break-word}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 20px;margin-bottom:22px}
.brand{flex-basis:100%;font-size:12px;letter-spacing:.14em;text-transform:uppercase;
color:var(--soft);font-weight:600}
h1{font-size:34px;line-height:1.15;letter-spacing:-.015em;margin:0;font-weight:700}
header p{margin:0;color:var(--soft);font-size:14px}
h2{font-size:21px;letter-spacing:-.01em;margin:56px 0 4px;font-weight:650;break-after:avoid}
h3{font-size:15px;margin:26px 0 8px;font-weight:650;break-after:avoid}
.lead{font-size:22px;line-height:1.4;letter-spacing:-.01em;max-width:54em;margin:26px 0 12px;
font-weight:450}
.note{color:var(--soft);font-size:13.5px;max-width:62em;margin:4px 0 14px}
.verdict{border:1px solid var(--rule);border-left-width:8px;border-radius:6px;background:var(--card);
padding:16px 22px 14px}
.verdict.pass{border-left-color:var(--good)}.verdict.fail,.verdict.error{border-left-color:var(--bad)}
.verdict.inconclusive{border-left-color:var(--unsure)}
.verdict .word{font-size:24px;font-weight:700;letter-spacing:.02em}
.pass .word,.yes{color:var(--good)}.fail .word,.error .word,.no{color:var(--bad)}
.inconclusive .word,.maybe{color:var(--unsure)}
.verdict ul{margin:6px 0 4px;padding-left:20px}
.checks{border-collapse:collapse;margin-top:8px;font-size:14px}
.checks td{padding:3px 18px 3px 0;vertical-align:top}
.checks .mark{font-weight:700;white-space:nowrap}
code{font:.92em/1.4 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.scroll{overflow-x:auto}
table.data{border-collapse:collapse;width:100%;font-size:14px;margin:10px 0 6px}
.data th,.data td{padding:6px 14px 6px 0;text-align:left;vertical-align:baseline}
.data thead th{border-bottom:2px solid var(--ink);font-weight:650;white-space:nowrap}
.data tbody th{font-weight:400;color:var(--soft);white-space:nowrap}
.data tbody tr+tr td,.data tbody tr+tr th{border-top:1px solid var(--rule)}
.data tr.group th{white-space:normal;border-top:1px solid var(--ink);font-weight:650;color:var(--ink);
padding-top:16px;font-size:15px}
.data tbody:first-of-type tr.group th{border-top:0}
.data tr.first>*{border-top-color:var(--soft)!important}
.data .n{text-align:right;white-space:nowrap}
.data thead .n{text-align:right}
.data small,.bound{color:var(--soft);font-size:12.5px;white-space:nowrap}
.zero{color:var(--faint)}.hit{font-weight:650}
.key{font-weight:650;white-space:normal;display:inline-block;min-width:7em;max-width:22em}
.key::before{content:"";display:inline-block;width:11px;
height:11px;border-radius:2px;margin-right:7px;background:currentColor}
.key span{color:var(--ink)}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:10px 18px}
figure{margin:0;break-inside:avoid}
figure svg{max-width:100%;height:auto;display:block}
figcaption{font-size:13px;color:var(--soft);padding:0 10px 8px 48px}
figcaption b{color:var(--ink);font-weight:600}
dl.method{display:grid;grid-template-columns:minmax(150px,210px) 1fr;gap:7px 22px;font-size:14px;
max-width:70em}
dl.method dt{font-weight:600}dl.method dd{margin:0;color:var(--soft)}
pre{background:var(--tint);border-radius:6px;padding:13px 16px;overflow-x:auto;white-space:pre-wrap;
font:13px/1.6 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
h1,h3,li,p,.checks td,figcaption,.far,.data .group th,.data .key{overflow-wrap:anywhere}
.far{min-width:9em;max-width:26em}
.trials{font-size:12.5px!important}.trials td,.trials th{padding:3px 12px 3px 0!important}
.warn{background:var(--unsurebg);border-radius:6px;padding:9px 16px;margin:8px 0;font-size:14px}
sup{font-size:.72em;line-height:0;color:var(--soft);font-weight:400;margin-left:1px}
svg text{font-family:inherit;fill:var(--ink);font-size:12px;paint-order:stroke;stroke:var(--bg);
stroke-width:3px;stroke-linejoin:round}
svg .tick{font-size:11px;fill:var(--soft)}svg .label{fill:var(--soft)}
svg .title{font-size:13.5px;font-weight:650}svg .value,svg .end{font-weight:600}
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--faint);stroke-width:1}
line.zero{stroke:var(--soft);stroke-width:1.5}
.fault{stroke:var(--ink);stroke-width:1.25}.level{stroke:var(--ink);stroke-width:1.25;
stroke-dasharray:5 4;opacity:.75}
.thin{fill:none;stroke-width:.8;opacity:.28}.bold{fill:none;stroke-width:2.2;stroke-linejoin:round}
.whisker{stroke-width:2.5}
path.a0,line.a0{stroke:var(--a0)}path.a1,line.a1{stroke:var(--a1)}path.a2,line.a2{stroke:var(--a2)}
path.a3,line.a3{stroke:var(--a3)}path.a4,line.a4{stroke:var(--a4)}path.a5,line.a5{stroke:var(--a5)}
svg text.a0,circle.a0{fill:var(--a0)}svg text.a1,circle.a1{fill:var(--a1)}
svg text.a2,circle.a2{fill:var(--a2)}svg text.a3,circle.a3{fill:var(--a3)}
svg text.a4,circle.a4{fill:var(--a4)}svg text.a5,circle.a5{fill:var(--a5)}
.key.a0{color:var(--a0)}.key.a1{color:var(--a1)}.key.a2{color:var(--a2)}.key.a3{color:var(--a3)}
.key.a4{color:var(--a4)}.key.a5{color:var(--a5)}
.lost{stroke:none}
.h0{fill:url(#h0)}.h1{fill:url(#h1)}.h2{fill:url(#h2)}.h3{fill:url(#h3)}.h4{fill:url(#h4)}
.h5{fill:url(#h5)}
.p0{fill:var(--p0)}.p1{fill:var(--p1)}.p2{fill:var(--p2)}.p3{fill:var(--p3)}.pn{fill:var(--faint)}
.hidden{position:absolute;width:0;height:0}
footer{margin-top:56px;border-top:1px solid var(--rule);padding-top:12px;color:var(--faint);
font-size:12.5px}
@media print{body{padding:0;max-width:none;font-size:11pt}h2{margin-top:26px}
.data tr,.verdict,dl.method>*{break-inside:avoid}pre{border:1px solid var(--rule)}}
@media (max-width:640px){body{padding:22px 16px}h1{font-size:26px}.lead{font-size:18px}
dl.method{grid-template-columns:1fr}dl.method dd{margin-bottom:8px}}
)css";

// `hN` is the hatching in the colour of arm N.
inline constexpr const char* kHatchings = R"svg(<svg class="hidden" aria-hidden="true"><defs>
<pattern id="h0" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
  <path d="M0 0H6V6H0Z" style="fill:var(--a0)" opacity=".10"/>
  <path d="M0 0V6" style="stroke:var(--a0)" stroke-width="2" opacity=".5"/></pattern>
<pattern id="h1" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
  <path d="M0 0H6V6H0Z" style="fill:var(--a1)" opacity=".10"/>
  <path d="M0 0V6" style="stroke:var(--a1)" stroke-width="2" opacity=".5"/></pattern>
<pattern id="h2" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
  <path d="M0 0H6V6H0Z" style="fill:var(--a2)" opacity=".10"/>
  <path d="M0 0V6" style="stroke:var(--a2)" stroke-width="2" opacity=".5"/></pattern>
<pattern id="h3" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
  <path d="M0 0H6V6H0Z" style="fill:var(--a3)" opacity=".10"/>
  <path d="M0 0V6" style="stroke:var(--a3)" stroke-width="2" opacity=".5"/></pattern>
<pattern id="h4" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
  <path d="M0 0H6V6H0Z" style="fill:var(--a4)" opacity=".10"/>
  <path d="M0 0V6" style="stroke:var(--a4)" stroke-width="2" opacity=".5"/></pattern>
<pattern id="h5" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
  <path d="M0 0H6V6H0Z" style="fill:var(--a5)" opacity=".10"/>
  <path d="M0 0V6" style="stroke:var(--a5)" stroke-width="2" opacity=".5"/></pattern>
</defs></svg>
)svg";

}  // namespace crashworthy::report
