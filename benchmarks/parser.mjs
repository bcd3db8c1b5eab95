// Parse an event stream with eventsource-parser, in Node: the counterpart of parsers.py.
//
// node parser.mjs MODULE DECODER CUT: MODULE is the file of the package, DECODER is TextDecoder or StringDecoder, CUT is
// 64k or event. Reads the stream from standard input, parses it twice, and prints the result of the second time as JSON.
import {readFileSync} from 'node:fs'
import {StringDecoder} from 'node:string_decoder'
import {pathToFileURL} from 'node:url'

const [module, decoder, cut] = process.argv.slice(2)
const {createParser} = await import(pathToFileURL(module).href)
const BLOCK = 65536

function cutIntoPieces(stream) {
  const pieces = []
  for (let start = 0, end; start < stream.length; start = end) {
    end = cut === '64k' ? start + BLOCK : stream.indexOf('\n\n', start) + 2
    pieces.push(stream.subarray(start, end))
  }
  return pieces
}

function newDecode() {
  if (decoder === 'StringDecoder') {
    const strings = new StringDecoder('utf8')
    return (piece) => strings.write(piece)
  }
  const text = new TextDecoder()
  return (piece) => text.decode(piece, {stream: true})
}

function parse(pieces) {
  let count = 0
  let chars = 0
  const parser = createParser({
    onEvent(event) {
      count += 1
      chars += event.data.length
    },
  })
  const decode = newDecode()
  const cpu = process.cpuUsage()
  const begin = process.hrtime.bigint()
  for (const piece of pieces) parser.feed(decode(piece))
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9
  const {user, system} = process.cpuUsage(cpu)
  return {count, chars, seconds, cpu: (user + system) / 1e6}
}

const pieces = cutIntoPieces(readFileSync(0))
parse(pieces) // compiles the hot functions
console.log(JSON.stringify(parse(pieces)))
